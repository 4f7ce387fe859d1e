"""The sections of a report, one per part: the method and the tables."""

from collections.abc import Callable
from typing import Any

from benchmarks.measure import median, ratio
from benchmarks.report.quantities import rate, rates, seconds, share, size, spread, table, times
from benchmarks.report.targets import BATCHES, build_ratio

Figures = dict[str, Any]


def build(figures: Figures) -> str:
    text = (
        "Each build runs in a fresh process. Before the timer starts, libraries are loaded and the source is written; "
        "when it stops, results are written, and only memxlnet also syncs them to disk. All methods build the same "
        "columns and keep offsets and ids, which map predictions to text. *pair call* is transformers' tokenizer on "
        "batches of pairs with the spans of the answers, and writes nothing. *datasets.map* runs the same function in "
        "one process per core, from mapped Arrow files to Arrow files. *traditional* keeps a dictionary of lists for "
        "each feature in RAM, converts all of them to tensors and writes these in one call. Batches have 1,000 "
        "examples, or 32 for long documents. memxlnet reads the JSON file; it encodes in the same process up to about "
        "20,000 questions, and in one process per core above that. Repeated questions repeat their words, which "
        "memxlnet tokenizes only once; *questions* is the file without repetition. Memory is the peak of the whole "
        "process tree.\n"
    )
    blocks = [text]
    for kind, found in figures.items():
        equal = found["equal"]
        reached = build_ratio(found)
        speed = "" if reached is None else f" memxlnet is {times(reached)} as fast as `datasets.map`."
        blocks.append(
            f"**{kind.capitalize()}**: {found['examples']:,} examples, {found['segments']:,} segments. All "
            f"methods gave the same values of {', '.join(equal['columns'])} for {equal['segments']:,} segments before "
            f"the timing, and the same number of segments in each run.{speed}\n"
        )
        rows = [_builder(name, one, found) for name, one in found["contestants"].items()]
        head = ["", "runs", "time", "examples/s", "anonymous memory", "file-backed", "disk per segment"]
        blocks.append(table(head, rows))
    return "\n".join(blocks)


def _builder(name: str, one: Figures, found: Figures) -> list[str]:
    if "not possible" in one:
        return [name, "", f"not possible: {one['not possible']}", "", "", "", ""]
    return [
        name,
        str(len(one["seconds"])),
        spread(one["seconds"], seconds),
        spread(rates(one["seconds"], found["examples"]), rate),
        size(max(one["anonymous"])),
        size(max(one["file"])),
        f"{one['disk'] / found['segments']:,.0f} B" if "disk" in one else "-",
    ]


def reading(figures: Figures) -> str:
    contestants = figures["contestants"]
    absent = "".join(f" {name}: not installed." for name in figures["not installed"])
    absent += "".join(f" {name}: failed: {why}." for name, why in figures["failed"].items())
    text = (
        f"The five model columns of {figures['segments']:,} segments of long documents; each library is used as its "
        "documentation recommends. *pickled chunks* keeps three files in memory, each with int64 tensors, ids and "
        "offsets of 1,000 rows. LitData shuffles blocks of rows and the rows in a block, all others shuffle all rows. "
        "Opening, memory and epochs are measured in separate processes that start with a cold page cache. Memory is "
        "measured after opening and two epochs in batches of 32, or the part of an epoch that fits in the time (*part "
        f"read*). Rows and batches are random, warm, and interleaved over all contestants in one process.{absent}\n"
    )
    opened = [
        [
            name,
            *(spread(one[key], text_of) for key, text_of in (("open", seconds), ("anonymous", size), ("rss", size))),
            size(one["disk"]),
        ]
        for name, one in contestants.items()
    ]
    kinds = {"random row": "row", **{name: name for name in BATCHES}}
    random = [[name, *(_random(figures[kind], name) for kind in kinds.values())] for name in contestants]
    orders = list(contestants["memxlnet"]["epochs"])
    parts = list(contestants["memxlnet"]["share"])
    epochs = [
        [
            name,
            *(spread(one["epochs"][order], rate) if order in one["epochs"] else "-" for order in orders),
            *(share(one["share"][order]) for order in parts),
        ]
        for name, one in contestants.items()
    ]
    return "\n".join(
        [
            text,
            table(["", "open, cold", "anonymous memory", "resident memory", "disk"], opened),
            "Random reads, each followed by its ratio to memxlnet.\n",
            table(["", *kinds], random),
            "Epochs in rows/s: the first from a cold page cache, the second with the same rows again.\n",
            table(["", *orders, *(f"part read, {order}" for order in parts)], epochs),
            *(_own(figures["own"]) if "own" in figures else ()),
        ]
    )


def _own(figures: Figures) -> list[str]:
    batches = [[name, *(spread(figures[batch][name], seconds) for batch in BATCHES)] for name in figures["batch of 8"]]
    rows = [[name, spread(samples, seconds)] for name, samples in figures["row"].items()]
    return [
        "Variants of memxlnet, interleaved, random and warm: the same rows in one file and in several, at full width "
        "and cut on the padding side; and one row, with all metadata or only the tensors of the model.\n",
        table(["", *BATCHES], batches),
        table(["", "random row"], rows),
    ]


def _random(samples: Figures, name: str) -> str:
    if name not in samples:
        return "not measured: takes too long"
    return f"{spread(samples[name], seconds)}, {times(median(samples[name]) / median(samples['memxlnet']))}"


def larger_than_ram(figures: Figures) -> str:
    if "not possible" in figures:
        return (
            f"Not possible on this machine: {figures['not possible']}. This part needs a control group with a limit.\n"
        )
    disk = figures["disk"]
    own = median(disk["rows"])
    text = (
        f"A child process in a control group ({figures['control group']}) with a limit of {size(figures['limit'])}, "
        f"page cache included, reads {size(figures['feature bytes'])} of features ({figures['segments']:,} segments) "
        f"from a cold page cache, shuffled, in batches of 32. Direct reads of the pages of random rows (blocks of "
        f"{disk['block bytes'] / 1000:.1f} kB, 32 Python threads, which would limit a very fast disk) reach "
        f"{spread(disk['rows'], rate)} rows/s, {size(median(disk['bytes']))}/s. The loader may exceed this, because "
        "rows of the same page are read once while that page stays cached. Pages of libraries that other processes "
        "share are in the plot but do not count towards the limit.\n"
    )
    rows = []
    for name in ("lazy, asking ahead", "lazy, not asking ahead"):
        if name not in figures:
            continue  # left out of quick runs
        one = figures[name]
        if one["killed"]:
            rows.append([name, "killed by the system", "", "", "", ""])
            continue
        done = "a whole epoch" if one["whole epoch"] else f"{one['rows']:,} rows, stopped after the time limit"
        speed = one["rows"] / one["seconds"]
        grown = size(one["anonymous grown after a tenth"]) if one["looks"] > 9 else "-"
        rows.append([name, done, f"{one['seconds']:.0f} s", rate(speed), share(speed / own), grown])
    eager = figures["eager"]
    rows.append(["eager", "killed by the system" if eager["killed"] else "finished", "", "", "", ""])
    head = ["", "outcome", "time", "rows/s", "share of disk throughput", "anonymous growth after the first tenth"]
    room = figures["cold, room for all"]
    speeds = [f"{name} {spread(room[name], rate)}" for name in ("asking ahead", "not asking ahead")]
    return "\n".join(
        [
            text,
            table(head, rows),
            f"Shuffled epochs of {room['segments']:,} segments that fit in memory, from a cold page cache, in rows/s: "
            f"{', '.join(speeds)}. By default the loader then leaves read-ahead to the system.\n",
        ]
    )


def scale(figures: Figures) -> str:
    segments, examples, shards = figures["segments"], figures["examples"], figures["shards"]
    exponents = figures["exponents"]
    reading_rows = []
    for name, one in sorted(segments.items(), key=lambda item: int(item[0])):
        if "not possible" in one:
            reading_rows.append([f"{int(name):,}", f"not possible: {one['not possible']}", "", "", "", ""])
            continue
        numbers = [f"{one['rows']:,}", str(one["shards"])]
        cells = [spread(one["open"], seconds), spread(one["batch"], seconds), spread(one["anonymous"], size)]
        reading_rows.append([*numbers, *cells, spread(one["first step"], seconds)])
    building = [
        [
            f"{int(number):,}",
            spread(one["seconds"], seconds),
            rate(int(number) / median(one["seconds"])),
            size(max(one["anonymous"])),
        ]
        for number, one in examples.items()
        if "not possible" not in one
    ]
    books = [
        [f"{int(characters):,}", spread(one["seconds"], seconds), size(max(one["anonymous"]))]
        for characters, one in figures.get("books", {}).items()
    ]
    by_shards = [
        [count, *(f"{spread(shards[name][count], seconds)}, {_shards(shards[name], count)}" for name in _SHARD_BATCHES)]
        for count in shards["batch of 32"]
    ]
    fitted = "; ".join(f"{name} {value:.2f}" for name, value in exponents.items())
    return "\n".join(
        [
            f"Long documents, {figures['length']} tokens per row. Exponents of the fitted power laws (0 is constant, 1 "
            f"is linear): {fitted}. Batches are drawn from 6,400 cached rows; memory is the growth by opening, these "
            "batches and the first step of a shuffled epoch. Builds use one process up to about 20,000 questions, and "
            "one process per core above that; their memory includes about 200 MB of libraries.\n",
            table(
                ["segments", "shards", "open", "batch of 32, warm", "memory added", "first shuffled step"], reading_rows
            ),
            table(["examples", "build", "examples/s", "anonymous memory"], building),
            *([table(["characters of one text, 20 questions", "build", "anonymous memory"], books)] if books else []),
            f"Random batches of {shards['segments']:,} segments by number of shards, each followed by its ratio to one "
            "shard:\n",
            table(["shards", *_SHARD_BATCHES], by_shards),
        ]
    )


_SHARD_BATCHES = ("batch of 32", "batch of 256")


def _shards(samples: Figures, count: str) -> str:
    return times(median(samples[count]) / median(samples["1"]))


def training(figures: Figures) -> str:
    text = (
        f"The recurrent loop of `benchmarks/train_recurrent.py` with a small XLNet over {figures['segments']:,} "
        f"segments of long documents, {figures['lanes']} lanes, cold page cache; lazy and eager read ahead in a "
        "thread, pickled chunks row by row, as is usual for them. Memory is sampled after each update and counted from "
        "that of the model after warm-up steps, so that it is due to the loader. For a whole epoch, see *Loaders*.\n"
    )
    rows = [
        [
            name,
            spread(one["steps a second"], lambda value: f"{value:.2f}"),
            spread(one["share waited"], share),
            spread(one["share of an epoch"], share),
            spread(one["anonymous grown"], size),
        ]
        for name, one in figures["loaders"].items()
    ]
    blocks = [
        text,
        table(["", "steps/s", "time spent waiting", "part of an epoch", "anonymous memory added"], rows),
    ]
    return "\n".join(blocks)


def loaders(figures: Figures) -> str:
    blocks = [
        "Shuffled epochs in 32 lanes without a thread, and `index_select` of the same steps from tensors in RAM; "
        "*share* is the speed relative to RAM.\n",
        table(["", "loader", "RAM tensors", "share", "padding"], _epoch_rows(figures["epochs"])),
    ]
    regular = figures["regular"]["seconds"]
    share_of_ram = median(regular["RAM tensors"]) / median(regular["loader"])
    blocks.append(
        f"The regular loader reads {rate(figures['regular']['segments'] / median(regular['loader']))} rows/s in "
        f"batches of 32, {share(share_of_ram)} of the speed of torch's `DataLoader` over tensors in RAM.\n"
    )
    waited = [
        f"{spread([one['share waited'] for one in figures[f'waiting, {state}']], share)} of its time with a {state} "
        "page cache"
        for state in ("warm", "cold")
    ]
    blocks.append(f"A loop with steps of 5 ms waits for the loader {' and '.join(waited)}.\n")
    memory_rows = [
        [
            name,
            f"{one['segments']:,}",
            f"{one['documents']:,}",
            f"{one['longest document']:,}",
            size(one["anonymous grown"]),
        ]
        for name, one in figures["memory of an epoch"].items()
    ]
    head = ["", "segments", "documents", "longest document", "anonymous memory added by an epoch"]
    blocks.append(table(head, memory_rows))
    resume = figures["resume"]
    blocks.append(
        f"Time from a saved state to the next step, in the middle of epoch {resume['epoch']:,}: "
        + ", ".join(f"{spread(resume[lanes], seconds)} {lanes} (step {resume[f'step, {lanes}']:,})" for lanes in _LANES)
        + ".\n"
    )
    return "\n".join(blocks)


def padding(figures: Figures) -> str:
    rows = [
        [way, *(share(found["useful"][way]) for found in figures["shares"].values())]
        for way in next(iter(figures["shares"].values()))["useful"]
    ]
    sizes = "; ".join(
        f"{name}: {found['documents']:,} documents, {found['segments']:,} segments"
        for name, found in figures["shares"].items()
    )
    blocks = [
        f"Share of real tokens in the input of a model, over a shuffled epoch of {figures['lanes']} lanes or batches "
        f'of {figures["lanes"]} ({sizes}). *grouped, cut*: `group_by_length=True`, `padding="longest"`, '
        f"`pad_to_multiple_of={figures['multiple']}`.\n",
        table(["", *figures["shares"]], rows),
        "Training epochs on the CPU: loading, forward and backward pass, and update. *XLNet* has 4 layers of width "
        "128, *BERT* 6 layers of width 384; neither has a recurrent memory, so that only the batches differ. "
        "*Trainer's way* is the length-grouped sampler and the padding collator of transformers' Trainer on the same "
        "features, stored without padding.\n",
    ]
    for model, found in figures["epochs"].items():
        base = found["seconds"][_DEFAULT]
        blocks.append(f"{model}, {found['documents']:,} questions, {found['segments']:,} segments:\n")
        trained = [
            [way, spread(taken, seconds), f"{found['tokens'][way]:,}", times(ratio(taken, base))]
            for way, taken in found["seconds"].items()
        ]
        blocks.append(table(["", "epoch", "tokens computed on", f"relative to {_DEFAULT}"], trained))
    return "\n".join(blocks)


_DEFAULT = "aligned, by default"


_LANES = ("aligned", "refilled")


def _epoch_rows(epochs: Figures) -> list[list[str]]:
    rows = []
    for data, found in epochs.items():
        for kind, one in found.items():
            if kind == "segments":
                continue
            loader, ram = one["seconds"]["loader"], one["seconds"]["RAM tensors"]
            rows.append(
                [
                    f"{data}, {kind}",
                    spread(loader, seconds),
                    spread(ram, seconds),
                    share(ratio(ram, loader)),
                    share(one["padding"]),
                ]
            )
    return rows


SECTIONS: dict[str, tuple[str, Callable[[Figures], str]]] = {
    "build": ("Building", build),
    "reading": ("Reading", reading),
    "larger-than-ram": ("Larger than RAM", larger_than_ram),
    "scale": ("Scale", scale),
    "training": ("Training", training),
    "loaders": ("Loaders", loaders),
    "padding": ("Padding", padding),
}
