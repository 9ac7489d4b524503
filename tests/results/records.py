"""Records written by hand: as a run leaves them, with the hashes of the files that are there."""

from pathlib import Path

from layerscope.files.reading import sums_of, write_sealed
from layerscope.results.contents import MADE
from layerscope.results.record import Record


def save(record: Record, folder: Path) -> Record:
    """Write a record with the hashes of the files of its verb that are in the folder."""
    of_verb = [folder / name for name in MADE[record.VERB] if name != record.FILE]
    files = [file for path in of_verb for file in ([path] if path.is_file() else path.rglob("*")) if file.is_file()]
    sums = sums_of(folder, sorted(str(file.relative_to(folder)) for file in files))
    record = record.model_copy(update={"files": sums})
    write_sealed(record, folder / record.FILE)
    return record
