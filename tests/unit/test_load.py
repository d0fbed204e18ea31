"""When texts queue up for the model, and who is told when they no longer do."""

from collections.abc import Callable

from worker.load import QUEUE_S, SMOOTHING_TEXTS, ModelLoad


def queueing(records: int, on_calm: Callable[[], None], model_slots: int = 1) -> ModelLoad:
    """So many records, of which one model slot has a little more than a queue to do."""
    load = ModelLoad(model_slots, on_calm)
    load.add(records + 1)
    load.finish(1, model_s=SMOOTHING_TEXTS * 1.01 * QUEUE_S / records)
    return load


def test_texts_queue_up_while_the_model_has_long_to_do() -> None:
    """Until enough of them have an outcome, whoever's they are; then it is told, once."""
    told: list[bool] = []
    load = queueing(4, lambda: told.append(load.is_queueing))
    assert load.is_queueing
    load.finish(1)
    load.finish(3)
    assert not load.is_queueing
    assert told == [False]


def test_a_queue_of_a_partition_that_is_gone_is_none() -> None:
    """What will never be scored waits for nobody."""
    told: list[bool] = []
    load = queueing(10, lambda: told.append(True))
    load.finish(10)
    assert (load.is_queueing, told) == (False, [True])


def test_more_model_slots_make_a_shorter_queue() -> None:
    """The same texts do not queue up for ten slots."""
    assert not queueing(10, lambda: None, model_slots=10).is_queueing
