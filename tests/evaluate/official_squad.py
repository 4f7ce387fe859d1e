"""The official SQuAD 2.0 metric, after ``evaluate-v2.0.py`` (Rajpurkar et al. 2018); nothing of the library in it."""

import collections
import json
import re
import string
from pathlib import Path
from typing import Any

Scores = dict[str, float]


def normalized(text: str) -> str:
    text = text.lower()
    exclude = set(string.punctuation)
    text = "".join(character for character in text if character not in exclude)
    text = re.sub(re.compile(r"\b(a|an|the)\b", re.UNICODE), " ", text)
    return " ".join(text.split())


def tokens(text: str) -> list[str]:
    return normalized(text).split() if text else []


def compute_exact(gold: str, predicted: str) -> int:
    return int(normalized(gold) == normalized(predicted))


def compute_f1(gold: str, predicted: str) -> float:
    gold_tokens, predicted_tokens = tokens(gold), tokens(predicted)
    common = collections.Counter(gold_tokens) & collections.Counter(predicted_tokens)
    same = sum(common.values())
    if len(gold_tokens) == 0 or len(predicted_tokens) == 0:
        return int(gold_tokens == predicted_tokens)
    if same == 0:
        return 0
    precision = 1.0 * same / len(predicted_tokens)
    recall = 1.0 * same / len(gold_tokens)
    return (2 * precision * recall) / (precision + recall)


def read_articles(path: Path) -> list[Any]:
    found: list[Any] = json.loads(path.read_text(encoding="utf-8"))["data"]
    return found


def as_articles(examples: list[dict[str, Any]]) -> list[Any]:
    """Flat examples in the nested form of SQuAD."""
    return [
        {
            "paragraphs": [
                {
                    "context": one["context"],
                    "qas": [{"id": one["id"], "answers": [{"text": text} for text in one["answers"]["text"]]}],
                }
            ]
        }
        for one in examples
    ]


def questions(articles: list[Any]) -> list[Any]:
    return [qa for article in articles for paragraph in article["paragraphs"] for qa in paragraph["qas"]]


def raw_scores(articles: list[Any], predictions: dict[str, str]) -> tuple[Scores, Scores]:
    exact: Scores = {}
    f1: Scores = {}
    for qa in questions(articles):
        golds = [answer["text"] for answer in qa["answers"] if normalized(answer["text"])]
        if not golds:
            golds = [""]
        if qa["id"] not in predictions:
            continue
        predicted = predictions[qa["id"]]
        exact[qa["id"]] = max(compute_exact(gold, predicted) for gold in golds)
        f1[qa["id"]] = max(compute_f1(gold, predicted) for gold in golds)
    return exact, f1


def apply_threshold(scores: Scores, na_probs: Scores, has_answer: dict[str, bool], threshold: float) -> Scores:
    return {
        name: float(not has_answer[name]) if na_probs[name] > threshold else score for name, score in scores.items()
    }


def evaluate(
    articles: list[Any], predictions: dict[str, str], na_probs: Scores | None = None, threshold: float = 1.0
) -> dict[str, float]:
    """The script's main, without its plots and its search for the best threshold."""
    has_answer = {qa["id"]: bool(qa["answers"]) for qa in questions(articles)}
    probabilities = na_probs if na_probs is not None else dict.fromkeys(predictions, 0.0)
    exact, f1 = (
        apply_threshold(scores, probabilities, has_answer, threshold) for scores in raw_scores(articles, predictions)
    )
    total = len(exact)
    result = {"exact": 100.0 * sum(exact.values()) / total, "f1": 100.0 * sum(f1.values()) / total, "total": total}
    for prefix, wanted in (("HasAns", True), ("NoAns", False)):
        names = [name for name, found in has_answer.items() if found == wanted]
        if names:
            result[f"{prefix}_exact"] = 100.0 * sum(exact[name] for name in names) / len(names)
            result[f"{prefix}_f1"] = 100.0 * sum(f1[name] for name in names) / len(names)
            result[f"{prefix}_total"] = len(names)
    return result


def find_best_thresh(
    predictions: dict[str, str], scores: Scores, na_probs: Scores, has_answer: dict[str, bool]
) -> tuple[float, float]:
    num_no_ans = sum(1 for name in has_answer if not has_answer[name])
    cur_score: float = num_no_ans
    best_score = cur_score
    best_thresh = 0.0
    for name in sorted(na_probs, key=lambda key: na_probs[key]):
        if name not in scores:
            continue
        if has_answer[name]:
            diff = scores[name]
        elif predictions[name]:
            diff = -1
        else:
            diff = 0
        cur_score += diff
        if cur_score > best_score:
            best_score = cur_score
            best_thresh = na_probs[name]
    return 100.0 * best_score / len(scores), best_thresh


def average_precision(scores: Scores, na_probs: Scores, num_true_pos: int, has_answer: dict[str, bool]) -> float:
    names = sorted(na_probs, key=lambda key: na_probs[key])
    true_pos = 0.0
    recalls = [0.0]
    avg_prec = 0.0
    for place, name in enumerate(names):
        if has_answer[name]:
            true_pos += scores[name]
        cur_p = true_pos / float(place + 1)
        cur_r = true_pos / float(num_true_pos)
        if place == len(names) - 1 or na_probs[name] != na_probs[names[place + 1]]:
            avg_prec += cur_p * (cur_r - recalls[-1])
            recalls.append(cur_r)
    return 100.0 * avg_prec


def evaluate_with_probabilities(
    articles: list[Any], predictions: dict[str, str], na_probs: Scores, threshold: float = 1.0
) -> dict[str, float]:
    """The script's main with ``--na-prob-file`` and ``--out-image-dir``, without its plots."""
    has_answer = {qa["id"]: bool(qa["answers"]) for qa in questions(articles)}
    result = evaluate(articles, predictions, na_probs, threshold)
    exact, f1 = raw_scores(articles, predictions)
    for name, scores in (("exact", exact), ("f1", f1)):
        result[f"best_{name}"], result[f"best_{name}_thresh"] = find_best_thresh(
            predictions, scores, na_probs, has_answer
        )
    num_true_pos = sum(has_answer.values())
    if num_true_pos:
        oracle = {name: float(found) for name, found in has_answer.items()}
        for name, scores in (("exact", exact), ("f1", f1), ("oracle", oracle)):
            result[f"pr_{name}_ap"] = average_precision(scores, na_probs, num_true_pos, has_answer)
    return result
