"""Writers with one fault each."""


def _line(prediction):
    return f"{prediction.index}\n"


def writes_all_predictions(path, predictions, about):
    """Leave the last predictions out."""
    path.write_text("".join(_line(each) for each, _ in zip(predictions, range(3), strict=False)))


def accepts_no_predictions(path, predictions, about):
    """Write the first prediction as a head, without checking that there is one."""
    first = next(predictions)
    path.write_text(_line(first) + "".join(map(_line, predictions)))


def reports_unwritable_paths(path, predictions, about):
    """Write into any folder."""
    path.mkdir(exist_ok=True)
    for each in predictions:
        (path / f"{each.index}.txt").write_text(_line(each))
