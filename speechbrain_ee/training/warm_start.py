# SPDX-License-Identifier: Apache-2.0
"""Start a training from another run's weights: the second of two stages, or exits for a model that has one."""

from pathlib import Path

import torch
from speechbrain.utils.logger import get_logger
from torch import nn

from speechbrain_ee.lobes.state_dicts import load_strict
from speechbrain_ee.model.folder import CONFIG_FILE, TOKENIZER_FILE, WEIGHTS_FILE, ModelError, load_config, load_model

logger = get_logger(__name__)


def warm_start(modules: dict[str, nn.Module], folder: str | Path, *, tokenizer_file: str | Path) -> list[int]:
    """Take over features and encoder of a model folder, and the heads of the exit layers that both have.

    Arguments
    ---------
    modules : dict[str, nn.Module]
        The parts ``features``, ``encoder`` and ``heads`` to load into.
    folder : str | Path
        A run folder or bundle.
    tokenizer_file : str | Path
        The tokenizer of this training; heads of another's tokens are not taken over.

    Returns
    -------
    list[int]
        Exit layers whose heads were taken over; the others start anew.

    Raises
    ------
    ModelError
        If the folder holds no whole model.
    ModelError
        If features or encoder have other settings.
    CheckpointError
        If their weights are of another shape.
    """
    folder = Path(folder)
    given = load_model(load_config(folder / CONFIG_FILE), folder / WEIGHTS_FILE)
    for name in ("features", "encoder"):
        _check_settings(folder, name, _function_of(given[name]), _function_of(modules[name]))
        load_strict(modules[name], given[name].state_dict(), what=f"the {name} of {folder}")
    taken = []
    if _are_alike(modules["heads"], given["heads"]) and _same_file(folder / TOKENIZER_FILE, Path(tokenizer_file)):
        theirs = {layer: index for index, layer in enumerate(given["encoder"].exit_layers)}
        for index, layer in enumerate(modules["encoder"].exit_layers):
            if layer in theirs:
                pairs = zip(modules["heads"].modules_of(index), given["heads"].modules_of(theirs[layer]), strict=True)
                for own, other in pairs:
                    own.load_state_dict(other.state_dict())
                taken.append(layer)
    new = [layer for layer in modules["encoder"].exit_layers if layer not in taken]
    logger.info("started from %s: features, encoder, heads of the layers %s; new heads at %s", folder, taken, new)
    return taken


def _function_of(module: nn.Module) -> dict:
    """Settings that change what the same weights compute; not how many layers there are and what is dropped out."""
    settings = {"class": type(module).__name__} | module.config
    settings |= settings.pop("backbone", {})
    free = {"exit_layers", "num_layers", getattr(module, "depth_setting", None)}
    return {name: value for name, value in settings.items() if name not in free and "dropout" not in name}


def _check_settings(folder: Path, part: str, theirs: dict, ours: dict) -> None:
    differing = sorted(name for name in theirs.keys() | ours.keys() if theirs.get(name) != ours.get(name))
    if differing:
        was = ", ".join(f"{name} was {theirs.get(name)!r} and is {ours.get(name)!r}" for name in differing[:3])
        raise ModelError(f"the {part} of {folder} have other settings ({was}): give the same, or no init_from")


def _are_alike(ours: nn.Module, theirs: nn.Module) -> bool:
    """Whether heads differ in nothing but their number and place."""
    places = {"num_exits", "exit_layers", "decoders_at", "decoders_per_batch"}
    own, other = ({key: value for key, value in one.config.items() if key not in places} for one in (ours, theirs))
    return type(ours) is type(theirs) and own == other


def _same_file(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def load_checkpoint_encoder(hparams: dict) -> None:
    """Load features and encoder of the newest checkpoint, which the Brain does not do where states are cached.

    Raises
    ------
    CheckpointError
        If their weights do not fit.
    """
    checkpoint = hparams["checkpointer"].find_checkpoint()
    for name in ("features", "encoder"):
        file = checkpoint.paramfiles[name]
        state = torch.load(file, map_location="cpu", weights_only=True)
        load_strict(hparams[name], state, what=f"the checkpoint {file}")


def load_initial(hparams: dict) -> None:
    """Load the weights of init_from; all of them where they are to be mixed with the trained ones."""
    parts = {name: hparams[name] for name in ("features", "encoder", "heads")}
    taken = warm_start(parts, hparams["init_from"], tokenizer_file=hparams["tokenizer_file"])
    new = [layer for layer in hparams["exit_layers"] if layer not in taken]
    if new and hparams["init_share"] > 0:
        raise ValueError(
            f"init_share {hparams['init_share']} mixes in the heads of {hparams['init_from']}, which has none like "
            f"those of the layers {new}: give 0, or a run of the same heads and tokenizer"
        )
