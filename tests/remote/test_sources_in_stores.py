"""Examples in stores: files of S3 and of the Hub as sources, streamed."""

from pathlib import Path

import pytest

from memxlnet.errors import SourceError, SourceNotFoundError
from memxlnet.sources import open_source
from tests.remote.hub_server import READER, HubServer, Repo
from tests.remote.s3 import SECRET, Bucket
from tests.sources.test_files import FORMATS
from tests.sources.test_places import ROWS

PARTS = {f"qa/part-{number}.jsonl": FORMATS[".jsonl"](ROWS[number * 5 : number * 5 + 5]) for number in range(2)}


@pytest.fixture
def questions(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a directory of two files in a bucket, which the environment opens."""
    for name, value in (
        ("AWS_ENDPOINT_URL", bucket.endpoint),
        ("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"),
        ("AWS_SECRET_ACCESS_KEY", SECRET),
    ):
        monkeypatch.setenv(name, value)
    for name, content in PARTS.items():
        bucket.client.put_object(Bucket=bucket.name, Key=name, Body=content)
    return f"s3://{bucket.name}/qa"


@pytest.mark.parametrize("end", ["", "/*.jsonl"])
def test_files_of_a_bucket(questions: str, bucket: Bucket, end: str) -> None:
    source = open_source(questions + end, "train")
    assert list(source.rows()) == list(source.rows()) == ROWS
    assert source.place(7) == ("part-1.jsonl", 2)
    source.check_unchanged()
    bucket.client.put_object(Bucket=bucket.name, Key="qa/part-1.jsonl", Body=PARTS["qa/part-0.jsonl"])
    with pytest.raises(SourceError, match=r"part-1\.jsonl"):
        source.check_unchanged()
    assert open_source(questions + end, "train").identity() != source.identity()


def test_a_file_that_a_bucket_does_not_have(questions: str) -> None:
    with pytest.raises(SourceNotFoundError, match=r"nothing\.jsonl"):
        open_source(f"{questions}/nothing.jsonl", "train")


@pytest.mark.parametrize("end", ["/part-0.jsonl", "", "/*.jsonl"])
def test_files_of_a_repository(hub: HubServer, end: str, tmp_path: Path) -> None:
    repo = hub.repos["owner/questions"] = Repo()
    repo.commit(PARTS, "questions")
    source = open_source(f"hf://datasets/owner/questions/qa{end}", "train", token=READER)
    assert list(source.rows()) == (ROWS[:5] if "0" in end else ROWS)
    source.check_unchanged()
    assert READER not in repr(source.identity()) + repr(source.provenance())
