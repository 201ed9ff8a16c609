"""Requirements as gates: an option that fails one that must be met is not recommended; unknown is told as unknown."""

from __future__ import annotations

from collections.abc import Mapping

from cifarlab.decision.findings import Gate, State
from cifarlab.decision.given import Evidence, OptionKey
from cifarlab.decision.inputs import DecisionInputs
from cifarlab.decision.options import LABELS, Setting
from cifarlab.decision.wording import about
from cifarlab.stats import wilson_interval

_OWN_MODEL: tuple[OptionKey, ...] = ("build", "hybrid")
_VENDOR: tuple[OptionKey, ...] = ("buy", "adapt", "hybrid")
_FASTEST_PERSON_MS = 1000.0


def judge_gates(
    inputs: DecisionInputs, evidence: Evidence, setting: Setting, best_accuracy: Mapping[OptionKey, float]
) -> tuple[Gate, ...]:
    """Return every requirement for every option.

    Args:
        inputs: Requirements and facts.
        evidence: What was measured of our model.
        setting: Which options there are.
        best_accuracy: The accuracy each option has on images of the use with every amount at its better end.
    """
    gates: list[Gate] = []
    for option in setting.options:
        gates += _latency(option, inputs, evidence)
        gates += _privacy(option, inputs, setting)
        gates += _accuracy(option, inputs, evidence, best_accuracy[option])
        gates += _licence(option, inputs)
    return tuple(gates)


def rejected(gates: tuple[Gate, ...], option: OptionKey) -> tuple[str, ...]:
    """Return the requirements that must be met and that an option fails, in words."""
    return tuple(g.sentence for g in gates if g.option == option and g.must and g.state == "failed")


def unknown(gates: tuple[Gate, ...], option: OptionKey) -> tuple[str, ...]:
    """Return the requirements that must be met and of which nobody knows whether an option does, in words."""
    return tuple(g.sentence for g in gates if g.option == option and g.must and g.state == "unknown")


def _together(states: list[State]) -> State:
    """Return the state of what has several parts, each of which has to meet the requirement."""
    if "failed" in states:
        return "failed"
    return "unknown" if "unknown" in states else "met"


def _latency(option: OptionKey, inputs: DecisionInputs, evidence: Evidence) -> list[Gate]:
    limit = inputs.facts["requirements.latency_p99_ms.limit"]
    if limit is None:
        return []
    must = inputs.facts["requirements.latency_p99_ms.must"]
    wanted = f"99 of 100 answers within {about(limit)} ms"
    if option == "nothing":
        state, known = _latency_of_people(inputs.status_quo, limit)
        return [Gate("latency", option, must, state, f"{LABELS[option]}: {wanted}; {known}.")]
    parts: list[tuple[str, float | None]] = []
    if option in _OWN_MODEL:
        parts.append(("ours", evidence.latency_p99_ms))
    if option in _VENDOR:
        parts.append((f"{inputs.vendor}'s", inputs.facts["vendor.latency_p99_ms"]))
    states: list[State] = ["unknown" if time is None else "met" if time <= limit else "failed" for _, time in parts]
    texts = [f"{who} not measured" if time is None else f"{who} {about(time)} ms" for who, time in parts]
    state = _together(states)
    one_by_one = sum(time or 0.0 for _, time in parts)
    if state == "met" and one_by_one > limit:
        # a hybrid asks the vendor after our model, and of the sum only a bound is known
        state = "unknown"
        texts.append(f"one after the other up to {about(one_by_one)} ms")
    return [Gate("latency", option, must, state, f"{LABELS[option]}: {wanted}; {', '.join(texts)}.")]


def _latency_of_people(status_quo: str, limit: float) -> tuple[State, str]:
    """Return the state of doing nothing: nobody sorts a picture within a second, beyond that it was not measured."""
    if status_quo == "none":
        return "failed", "there is no answer"
    if limit < _FASTEST_PERSON_MS:
        return "failed", "people take seconds"
    return "unknown", "how long people take was not measured"


def _privacy(option: OptionKey, inputs: DecisionInputs, setting: Setting) -> list[Gate]:
    allowed = inputs.facts["requirements.images_may_leave.allowed"]
    must = inputs.facts["requirements.images_may_leave.must"]
    leaves: bool | None = False
    where = "the images stay in the house"
    if option in _VENDOR:
        leaves, where = inputs.facts["vendor.images_leave"], f"the images go to {inputs.vendor}"
    elif option == "nothing" and setting.status_quo == "people":
        leaves, where = inputs.facts["people.images_leave"], "the images go to people outside the house"
    state: State = "unknown"
    if leaves is False:
        state, where = "met", "the images stay in the house"
    elif leaves is None:
        state, where = ("met", "they may") if allowed else ("unknown", "whether the images leave is not known")
    elif allowed is not None:
        state = "met" if allowed else "failed"
    rule = {True: "images may leave the house", False: "images must not leave the house"}.get(
        allowed, "whether images may leave the house is not decided"
    )
    return [Gate("privacy", option, must, state, f"{LABELS[option]}: {rule}; {where}.")]


def _accuracy(option: OptionKey, inputs: DecisionInputs, evidence: Evidence, best: float) -> list[Gate]:
    limit = inputs.facts["requirements.minimum_accuracy.limit"]
    if limit is None:
        return []
    must = inputs.facts["requirements.minimum_accuracy.must"]
    wanted = f"{about(100 * limit)} % of the answers right on our own images"
    state: State = "unknown"
    known = "not measured on our own images"
    right = {"build": evidence.correct, "buy": evidence.vendor_correct}.get(option) if evidence.own_images else None
    if right is not None:
        low, high = wilson_interval(right, evidence.total)
        state = "met" if low >= limit else "failed" if high < limit else "unknown"
        known = f"measured {100 * low:.1f} to {100 * high:.1f} %"
    elif best < limit:
        state, known = "failed", f"at best {100 * best:.1f} % by the assumptions"
    return [Gate("accuracy", option, must, state, f"{LABELS[option]}: {wanted}; {known}.")]


def _licence(option: OptionKey, inputs: DecisionInputs) -> list[Gate]:
    if not inputs.facts["requirements.licence.needed"] or option == "nothing":
        return []
    must = inputs.facts["requirements.licence.must"]
    parts: list[tuple[str, bool | None]] = []
    if option in _OWN_MODEL:
        parts.append(("rights in our training images and starting weights", inputs.facts["ours.licence_allows_use"]))
    if option in _VENDOR:
        parts.append((f"{inputs.vendor}'s terms", inputs.facts["vendor.licence_allows_use"]))
    states: list[State] = ["unknown" if known is None else "met" if known else "failed" for _, known in parts]
    words = {None: "not checked", True: "allow it", False: "do not allow it"}
    texts = [f"{what}: {words[known]}" for what, known in parts]
    sentence = f"{LABELS[option]}: the licence must allow the use; {', '.join(texts)}."
    return [Gate("licence", option, must, _together(states), sentence)]
