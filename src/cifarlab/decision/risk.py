"""The risk register: what could go wrong, with which option, and who keeps watch.

Probability and impact are judgements on scales of three, not measurements; the facts beneath them carry a source.
"""

from __future__ import annotations

from cifarlab.decision.findings import Risk
from cifarlab.decision.given import Evidence, OptionKey
from cifarlab.decision.inputs import DecisionInputs

_VENDOR: tuple[OptionKey, ...] = ("buy", "adapt", "hybrid")
_OWN: tuple[OptionKey, ...] = ("build", "hybrid")
_MODELS: tuple[OptionKey, ...] = ("buy", "adapt", "build", "hybrid")


def risk_register(inputs: DecisionInputs, evidence: Evidence, options: tuple[OptionKey, ...]) -> tuple[Risk, ...]:
    """Return the risks of the options that are compared, the highest score first.

    Args:
        inputs: Facts that raise or lower a risk: whether images leave, whether licences were checked.
        evidence: Whether accuracy was measured on own images.
        options: Those compared.
    """
    risks = [*_of_the_evidence(inputs, evidence), *_of_the_vendor(inputs), *_of_our_own(inputs), *_of_both()]
    kept = [
        Risk(
            risk.name,
            risk.why,
            tuple(option for option in risk.options if option in options),
            risk.probability,
            risk.impact,
            risk.owner,
            risk.mitigation,
            risk.source,
        )
        for risk in risks
    ]
    return tuple(sorted((risk for risk in kept if risk.options), key=lambda risk: (-risk.score, risk.name)))


def _of_the_evidence(inputs: DecisionInputs, evidence: Evidence) -> list[Risk]:
    shift = 2 if evidence.own_images else 3
    return [
        Risk(
            "The pictures of the use differ from the test pictures",
            "CIFAR-10 holds pictures of 32 by 32 pixels of ten kinds of things, not road scenes; on newly gathered "
            "pictures of the same kind published models lost 3 to 15 points.",
            _MODELS,
            shift,
            3,
            "head of perception",
            "measure every candidate on a few hundred own labelled pictures before anything rests on it; repeat with "
            "each season and place",
            "Recht et al. (2019), arXiv 1902.10811",
        ),
        Risk(
            "The vendor's claim does not hold",
            _about_claim(inputs, evidence),
            _VENDOR,
            1 if evidence.paired is not None else 2,
            2,
            "purchasing",
            "ask for predictions on images of our choosing; make the accuracy part of the contract",
            "the vendor's offer",
        ),
    ]


def _about_claim(inputs: DecisionInputs, evidence: Evidence) -> str:
    if evidence.paired is not None:
        return f"Of {inputs.vendor}'s predictions we hold those on {evidence.total:,} images only."
    images = inputs.facts["vendor.claim_images"]
    counted = "does not say on how many images, or which," if images is None else f"counted on {images:,} images;"
    rest = "its figure was counted" if images is None else "which they are we do not know"
    return f"{inputs.vendor} {counted} {rest}; we hold none of its predictions."


def _of_the_vendor(inputs: DecisionInputs) -> list[Risk]:
    leaves = inputs.facts["vendor.images_leave"]
    return [
        Risk(
            "Pictures leave the house",
            "Pictures from cars show people and number plates; sending them out is processing by another, often in "
            "another country.",
            _VENDOR,
            1 if leaves is False else 3,
            2,
            "data protection officer",
            "a contract on processing; storage in the region; blur faces and plates before sending; or run the service "
            "on our machines",
            "Regulation (EU) 2016/679 (GDPR), articles 28 and 44",
        ),
        Risk(
            "The vendor ends the service",
            "Services end: Microsoft supports Azure Custom Vision until 25 September 2028 only.",
            _VENDOR,
            2,
            2,
            "engineering manager",
            "a notice period in the contract; keep own labels and a trained model of our own that could take over",
            "Microsoft, Custom Vision limits and quotas (page of the announcement, looked up 2026-11-21)",
        ),
        Risk(
            "The vendor's answers change unnoticed",
            "A service may be retrained at any time; the same picture may get another answer.",
            _VENDOR,
            2,
            2,
            "machine learning engineer",
            "send a fixed set of own pictures each month and compare; pin a version where the vendor offers one",
            "judgement",
        ),
        Risk(
            "Locked in",
            "Classes, thresholds and interfaces follow the vendor; prices move: a Vertex AutoML training hour went "
            "from 3.15 to 3.465 USD between 2021 and 2026.",
            _VENDOR,
            2,
            2,
            "purchasing",
            "own the labels; keep the interface behind one of our own; agree on prices for the horizon",
            "Google, Vertex AI prices (looked up 2026-11-20)",
        ),
    ]


def _of_our_own(inputs: DecisionInputs) -> list[Risk]:
    checked = inputs.facts["ours.licence_allows_use"]
    return [
        Risk(
            "Rights in the training pictures",
            "CIFAR-10 was drawn from 80 Million Tiny Images, which its authors withdrew on 29 June 2020; no licence of "
            "the single pictures is known.",
            _OWN,
            {True: 1, None: 2, False: 3}[checked],
            3,
            "legal",
            "use CIFAR-10 as a yardstick only; train the product on pictures whose rights are clear; check the terms "
            "of starting weights",
            "Torralba, Fergus and Freeman, statement of 29 June 2020",
        ),
        Risk(
            "Few people can do it",
            "Training and operation hang on one or two engineers at first.",
            _OWN,
            2,
            2,
            "engineering manager",
            "one command repeats the run; two people release in turn; a written routine",
            "judgement",
        ),
        Risk(
            "Building takes longer",
            "Estimates of work are too low as a rule; the range here reaches two and a half times its base.",
            _OWN,
            2,
            2,
            "engineering manager",
            "decide again after four weeks by what was measured; the vendor's offer stays open until then",
            "HM Treasury, The Green Book, on optimism bias",
        ),
    ]


def _of_both() -> list[Risk]:
    everyone: tuple[OptionKey, ...] = _MODELS
    return [
        Risk(
            "Somebody attacks the classifier",
            "Pictures can be changed so that people see no difference and a network errs; files sent to a service can "
            "carry attacks on the program that reads them.",
            everyone,
            2,
            3,
            "security",
            "never let one answer alone steer; check files before decoding; patch libraries; test with attacks each "
            "release",
            "Szegedy et al. (2014), arXiv 1312.6199",
        ),
        Risk(
            "Regulation",
            "Rules of the EU's AI Act for systems that are safety components of products apply from 2 August 2028 "
            "(moved from 2027); for vehicles they come by way of type approval.",
            everyone,
            2,
            2,
            "legal",
            "keep data, evaluations and decisions on record from the start; ask the vendor for its documents",
            "Regulation (EU) 2024/1689, amendment approved by the Council on 29 June 2026; DLA Piper, 2 July 2026",
        ),
        Risk(
            "Wrong and certain",
            "Some wrong answers come with high confidence.",
            everyone,
            3,
            2,
            "machine learning engineer",
            "calibrate; answer only above a threshold; weigh mistakes by their harm; a second sensor where it matters",
            "Guo et al. (2017), arXiv 1706.04599",
        ),
    ]
