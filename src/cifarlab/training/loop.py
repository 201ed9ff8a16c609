"""The one training loop, for every model, optimiser and recipe.

Nothing that matters lives outside :class:`~cifarlab.training.checkpoint.TrainState`, so a run continued from a
checkpoint ends in the same bytes as one that was never stopped.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch.nn import functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cifarlab.config import Config
from cifarlab.data.imageset import ImageSet, Splits
from cifarlab.data.loader import BatchLoader, make_plan
from cifarlab.device import autocast, full_fp32, keep_freed_memory
from cifarlab.errors import NonFiniteLossError, StoppedError
from cifarlab.inference import predict_logits
from cifarlab.models import ImageClassifier, build_model, fit_to_images
from cifarlab.models.speednet import Speednet
from cifarlab.run import Run
from cifarlab.seeding import derive_seed
from cifarlab.training.batch_norm import global_batch_norm
from cifarlab.training.checkpoint import Progress, TrainState, pack_state
from cifarlab.training.compiling import compiled, warm_up
from cifarlab.training.distributed import ALONE, Replica, World, shared_logits
from cifarlab.training.optim import build_optimizers, set_learning_rate
from cifarlab.training.phases import enter_phase, phase_at
from cifarlab.training.schedule import schedule_factor
from cifarlab.training.suitability import require_suitable

_FEW = 8  # images
_STEPS_BETWEEN_LOSS_READS_ON_GPU = 25  # reading a loss back makes the GPU wait


@dataclass(frozen=True)
class StepReport:
    """What a progress display shows after a step; loss and accuracy are those of the epoch so far."""

    epoch: int
    num_epochs: int
    step: int
    num_steps: int
    loss: float
    accuracy: float
    images_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class Hooks:
    """What the caller hears of a run, and how it asks it to stop."""

    on_step: Callable[[StepReport], None] = lambda report: None
    on_epoch: Callable[[dict[str, float]], None] = lambda record: None
    stop_signal: Callable[[], int] = lambda: 0
    """Number of the signal that asks the run to stop; 0 for none."""


@dataclass
class Fit:
    """One run in progress: its state, its images, and what follows from the configuration."""

    config: Config
    state: TrainState
    loader: BatchLoader
    val: ImageSet | None
    device: torch.device
    run: Run
    hooks: Hooks
    class_weights_K: torch.Tensor | None
    forward: Callable[[torch.Tensor], torch.Tensor]
    world: World = ALONE
    unread: list[tuple[torch.Tensor, torch.Tensor]] = field(default_factory=list)
    """Loss and number of correct images of the steps not yet read back from the device."""


def judged_model(state: TrainState) -> ImageClassifier:
    """Return the model that is validated and kept: the moving average where there is one."""
    model = state.ema.module if isinstance(state.ema, AveragedModel) else state.model
    assert isinstance(model, ImageClassifier)
    return model


def build_state(config: Config, train: ImageSet, device: torch.device, precision: str) -> TrainState:
    """Build model and optimisers from the seed and the training images.

    Raises:
        ConfigError: If the model does not fit images, batch or train.low_resolution, or shifts exceed the images.
    """
    require_suitable(config, train)
    torch.manual_seed(derive_seed(config.train.seed, "initialisation"))
    model = build_model(config.model, train.num_classes, config.data.image_size)
    start = time.perf_counter()
    fit_to_images(model, train.images_NCHW)
    clock_seconds = time.perf_counter() - start
    if config.train.channels_last:
        model = model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    model = model.to(device)
    ema = None
    if config.train.ema:
        average = get_ema_multi_avg_fn(config.train.ema)  # type: ignore[no-untyped-call]
        ema = AveragedModel(model, multi_avg_fn=average, use_buffers=True)
    return TrainState(
        model=model,
        optimizers=build_optimizers(model, config.optimizer, precision),
        ema=ema,
        # in fp16 small gradients would vanish; the scaler lifts them into range
        scaler=torch.amp.GradScaler(device.type) if precision == "fp16" else None,
        best_weights={},
        progress=Progress(precision=precision, clock_seconds=clock_seconds),
    )


def fit(
    config: Config,
    state: TrainState,
    splits: Splits,
    device: torch.device,
    run: Run,
    hooks: Hooks,
    world: World = ALONE,
) -> None:
    """Train from where ``state`` stands to the end; metrics and checkpoints go to the run folder.

    Every rank of ``world`` calls this with equal arguments; rank 0 writes.

    Raises:
        NonFiniteLossError: If the loss becomes NaN or infinite; the last checkpoint is kept.
        StoppedError: If the caller asked to stop; the state was saved first.
    """
    if device.type == "cpu":
        keep_freed_memory()
    weights_K = None
    if config.train.class_weights == "balanced":
        weights_K = (len(splits.train) / (splits.train.num_classes * splits.train.class_counts)).to(device)
    model = compiled(config, state.model, device)
    fitting = Fit(
        config=config,
        state=state,
        loader=BatchLoader(splits.train, config, device, world.rows(make_plan(config, len(splits.train)).batch_size)),
        val=splits.val,
        device=device,
        run=run,
        hooks=hooks,
        class_weights_K=weights_K,
        forward=Replica(state.model, model) if world.size > 1 else model,
        world=world,
    )
    with global_batch_norm(state.model, enabled=world.size > 1), full_fp32(device, state.progress.precision):
        if config.train.compile:
            warm_up(config, state, fitting.forward, fitting.loader, device)
        while state.progress.step < fitting.loader.plan.num_steps and not _stopped_early(fitting):
            _train_epoch(fitting)
            _close_epoch(fitting)
            if state.progress.step < fitting.loader.plan.num_steps and (number := world.agree(hooks.stop_signal())):
                _stop(fitting, number)
    judged_model(state).preprocess.image_size = config.data.image_size


def _stopped_early(fitting: Fit) -> bool:
    patience, progress = fitting.config.train.early_stopping, fitting.state.progress
    return patience > 0 and len(progress.records) - progress.best_epoch >= patience


def _train_epoch(fitting: Fit) -> None:
    """Do the remaining steps of the current epoch."""
    progress, plan = fitting.state.progress, fitting.loader.plan
    every = 1 if fitting.device.type == "cpu" else _STEPS_BETWEEN_LOSS_READS_ON_GPU
    end = plan.epoch_end(progress.step)
    fitting.state.model.train()
    start, before = time.perf_counter(), progress.epoch_seconds
    while progress.step < end:
        _step(fitting)
        progress.step += 1
        if len(fitting.unread) >= every or progress.step == end:
            _read_losses(fitting)
            progress.epoch_seconds = before + time.perf_counter() - start
            fitting.hooks.on_step(_report(fitting))
        # several ranks have to agree on a stop; they do where they wait for their losses anyway
        may_stop = progress.step < end and (fitting.world.size == 1 or not fitting.unread)
        if may_stop and (number := fitting.world.agree(fitting.hooks.stop_signal())):
            _read_losses(fitting)
            progress.epoch_seconds = before + time.perf_counter() - start
            _stop(fitting, number)


def _stop(fitting: Fit, number: int) -> None:
    """Save the state and end, as all ranks agreed to because of the signal of that number."""
    progress, plan = fitting.state.progress, fitting.loader.plan
    _save_checkpoint(fitting)
    fitting.world.agree(0)  # no rank ends, and has torchrun end the others, before the state is on disk
    raise StoppedError(
        f"stopped at step {progress.step} of {plan.num_steps}; "
        f"continue with: cifarlab train --resume {fitting.run.quoted}",
        number,
        fitting.run.path,
    )


def _learning_rate_factor(fitting: Fit) -> float:
    progress = fitting.state.progress
    share = progress.step / fitting.loader.plan.num_steps
    return schedule_factor(fitting.config.schedule, share) * progress.plateau_factor


def _step(fitting: Fit) -> None:
    """One optimiser step on one batch."""
    config, state, step = fitting.config, fitting.state, fitting.state.progress.step
    model = state.model
    assert isinstance(model, ImageClassifier)
    if not isinstance(model.network, Speednet):  # which drops nothing out
        place = (fitting.world.rank,) if fitting.world.size > 1 else ()  # every rank drops out of its images on its own
        torch.manual_seed(derive_seed(config.train.seed, "dropout", step, *place))
    set_learning_rate(state.optimizers, _learning_rate_factor(fitting))
    enter_phase(model, phase_at(config, fitting.loader.plan, step))
    images_NCHW, targets, labels_N = fitting.loader.batch(step)
    with autocast(fitting.device, state.progress.precision):
        logits_NK = fitting.forward(images_NCHW)
    logits_NK = logits_NK.float()
    loss = F.cross_entropy(
        logits_NK, targets, weight=fitting.class_weights_K, label_smoothing=config.train.label_smoothing
    )
    if fitting.class_weights_K is not None and targets.ndim == 1:
        loss = loss * fitting.world.weight(fitting.class_weights_K[targets].sum())
    fitting.unread.append(fitting.world.totals(loss.detach(), (logits_NK.detach().argmax(1) == labels_N).sum()))
    if fitting.device.type == "cpu":
        _check_finite(fitting, [fitting.unread[-1][0].item()], step)  # before the weights are touched
    _update_weights(fitting, loss)


def _update_weights(fitting: Fit, loss: torch.Tensor) -> None:
    state, clip = fitting.state, fitting.config.optimizer.grad_clip
    (state.scaler.scale(loss) if state.scaler else loss).backward()  # type: ignore[no-untyped-call]
    for optimizer in state.optimizers:
        if state.scaler:
            state.scaler.unscale_(optimizer)
    if clip:
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), clip)
    for optimizer in state.optimizers:
        if state.scaler:
            state.scaler.step(optimizer)
        else:
            optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    if state.scaler:
        state.scaler.update()
    if isinstance(state.ema, AveragedModel):
        state.ema.update_parameters(state.model)


def _read_losses(fitting: Fit) -> None:
    """Fetch what the device still holds of this epoch's losses, and check them."""
    if not fitting.unread:
        return
    progress = fitting.state.progress
    losses = torch.stack([loss for loss, _ in fitting.unread]).tolist()
    _check_finite(fitting, losses, progress.step - len(losses))
    for loss in losses:  # one by one, so that the sum does not depend on how many were read at a time
        progress.loss_sum += loss
    progress.correct += int(torch.stack([correct for _, correct in fitting.unread]).sum())
    fitting.unread.clear()


def _check_finite(fitting: Fit, losses: list[float], first_step: int) -> None:
    for offset, loss in enumerate(losses):
        if loss - loss != 0:  # true for NaN and for both infinities
            raise _diverged(fitting, f"the loss became {loss}", first_step + offset)


def _check_answers(fitting: Fit, model: ImageClassifier) -> None:
    """Check, where nothing is validated, what the last step made of the model, which no loss shows any more."""
    progress = fitting.state.progress
    images_NCHW = fitting.loader.batch(progress.step - 1)[0][:_FEW]
    logits_NK, _ = predict_logits(model, images_NCHW, precision=progress.precision, device=fitting.device)
    if fitting.world.agree(int(not logits_NK.isfinite().all())):
        raise _diverged(fitting, "the answers became NaN or infinite", progress.step)


def _diverged(fitting: Fit, what: str, step: int) -> NonFiniteLossError:
    lr = fitting.state.optimizers[0].param_groups[0]["lr"]
    saved = fitting.run.checkpoint_steps()  # not every epoch saves one
    kept = f"the state after step {max(saved)} is kept in {fitting.run.path}" if saved else "no state was saved"
    return NonFiniteLossError(
        f"{what} at step {step} with learning rate {lr:.3g}; {kept}; "
        "lower --optimizer.lr or set --optimizer.grad-clip 1"
    )


def _report(fitting: Fit) -> StepReport:
    progress, plan = fitting.state.progress, fitting.loader.plan
    done = (progress.step - 1) % plan.steps_per_epoch + 1
    seconds = progress.clock_seconds + progress.epoch_seconds
    return StepReport(
        epoch=(progress.step - 1) // plan.steps_per_epoch + 1,
        num_epochs=plan.num_epochs,
        step=progress.step,
        num_steps=plan.num_steps,
        loss=progress.loss_sum / done,
        accuracy=progress.correct / (done * plan.batch_size),
        images_per_second=done * plan.batch_size / max(progress.epoch_seconds, 1e-9),
        seconds_left=seconds / progress.step * (plan.num_steps - progress.step),
    )


def _close_epoch(fitting: Fit) -> None:
    """Validate, record, remember the best weights, save a checkpoint."""
    config, progress = fitting.config, fitting.state.progress
    last = _report(fitting)
    record: dict[str, float] = {
        "epoch": len(progress.records) + 1,
        "step": progress.step,
        "train/loss": last.loss,
        "train/accuracy": last.accuracy,
    }
    model = judged_model(fitting.state)
    # at the resolution it is being trained at: batch statistics of another one would say nothing of its progress
    model.preprocess.image_size = phase_at(config, fitting.loader.plan, progress.step - 1).image_size
    if fitting.val is not None:
        logits_NK, _ = shared_logits(
            fitting.world,
            model,
            fitting.val.images_NCHW,
            fitting.val.num_classes,
            batch_size=config.evaluate.batch_size,
            precision=progress.precision,
            device=fitting.device,
        )
        loss = F.cross_entropy(logits_NK, fitting.val.labels_N).item()
        accuracy = (logits_NK.argmax(1) == fitting.val.labels_N).double().mean().item()
        record["val/loss"], record["val/accuracy"] = fitting.world.from_main_figures([loss, accuracy])
        _check_finite(fitting, [record["val/loss"]], progress.step)
        _follow_validation(fitting, record)
    else:
        _check_answers(fitting, model)
    record["lr"] = fitting.state.optimizers[0].param_groups[0]["lr"]
    record["seconds"] = progress.epoch_seconds
    record["images_per_second"] = last.images_per_second
    progress.records.append(record)
    progress.clock_seconds += progress.epoch_seconds
    progress.loss_sum, progress.correct, progress.epoch_seconds = 0.0, 0, 0.0
    if fitting.world.is_main:
        fitting.run.write_metrics(progress.records)
    every = config.train.checkpoint_epochs
    if every and (len(progress.records) % every == 0 or progress.step == fitting.loader.plan.num_steps):
        _save_checkpoint(fitting)
    fitting.hooks.on_epoch(record)


def _follow_validation(fitting: Fit, record: dict[str, float]) -> None:
    """Update the best epoch and the plateau schedule from this epoch's validation."""
    config, progress = fitting.config, fitting.state.progress
    if judged_model(fitting.state).preprocess.image_size < config.data.image_size:
        progress.best_epoch = len(progress.records) + 1  # not comparable; patience begins at full resolution
    elif record["val/accuracy"] > progress.best_accuracy:
        progress.best_accuracy, progress.best_epoch = record["val/accuracy"], len(progress.records) + 1
        if config.train.keep == "best":
            weights = judged_model(fitting.state).state_dict()
            fitting.state.best_weights = {name: value.detach().cpu().clone() for name, value in weights.items()}
    if config.schedule.name == "plateau":
        if record["val/loss"] < progress.plateau_best:
            progress.plateau_best, progress.plateau_wait = record["val/loss"], 0
        else:
            progress.plateau_wait += 1
            if progress.plateau_wait > config.schedule.patience:
                progress.plateau_factor, progress.plateau_wait = progress.plateau_factor * config.schedule.decay, 0


def _save_checkpoint(fitting: Fit) -> None:
    if not fitting.world.is_main:
        return
    tensors, values = pack_state(fitting.state)
    fitting.run.save_checkpoint(fitting.state.progress.step, tensors, values)
