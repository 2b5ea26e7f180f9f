#!/bin/sh
# Train a model with exits on two corpora together, evaluate it on their four test sets, and calibrate its policies.
#
# sh benchmarks/more_speech.sh conformer OUT EPOCHS [options of train.py, for example --device cuda]
# sh benchmarks/more_speech.sh whisper OUT EPOCHS [options of train.py]
#
# Needs data/speech and data/speech2 (manifests and audio) and, for whisper, data/whisper-base-encoder.
# Run the same command again to resume. These can be set in the environment:
#     PYTHON  the interpreter
#     TRAIN   the training command, for example "torchrun --nproc_per_node=2 train.py"
#     BATCH   the limits of a batch, for example "--max_batch_seconds 240 --max_batch_size 96" on a GPU
set -eu
model=$1 out=$2 epochs=$3
shift 3
PYTHON=${PYTHON:-python}
TRAIN=${TRAIN:-$PYTHON train.py}
BATCH=${BATCH:---max_batch_seconds 30 --max_batch_size 32}
mkdir -p "$out"
"$PYTHON" - "$out/train.jsonl" data/speech/train.jsonl data/speech2/train.jsonl <<'END'
import sys
from pathlib import Path

from speechbrain_ee.corpora.manifest import read_manifest, write_manifest

out, *parts = map(Path, sys.argv[1:])
write_manifest(out, [one for part in parts for one in read_manifest(part)])
END
set -- --train_manifest "$out/train.jsonl" --valid_manifest data/speech/dev.jsonl --test_manifests "[]" \
    --num_buckets 20 --precision bf16 "$@"

case $model in
conformer)
    run=$out/conformer
    $TRAIN hparams/conformer_ee.yaml --output_folder "$run" --number_of_epochs "$epochs" --n_mels 80 --d_model 144 \
        --d_ffn 576 --kernel_size 15 --exit_weights uniform --speeds "[0.9, 1.0, 1.1]" --noise_probability 0.3 \
        --time_masks 2 --freq_masks 2 --lr 1e-3 --warmup_steps 1500 --average_checkpoints 5 $BATCH "$@"
    ;;
whisper)
    # Heads on the frozen encoder first; the whole model then starts from them, and is interpolated with them.
    encoder="--source data/whisper-base-encoder --head_kind blstm --head_size 128"
    $TRAIN hparams/whisper_ee.yaml --output_folder "$out/retrofit" --number_of_epochs 1 $encoder --freeze encoder \
        --state_cache "$out/states" --max_batch_seconds 60 --max_batch_size 32 --lr 2e-3 --warmup_steps 200 \
        --average_checkpoints 1 "$@"
    run=$out/whisper
    $TRAIN hparams/whisper_ee.yaml --output_folder "$run" --number_of_epochs "$epochs" $encoder \
        --init_from "$out/retrofit" --init_share 0.5 --tokenizer_file "$out/retrofit/tokenizer.model" --dropout 0.1 \
        --speeds "[0.9, 1.0, 1.1]" --noise_probability 0.3 --lr 1e-3 --warmup_steps 300 --average_checkpoints 1 \
        $BATCH "$@"
    ;;
*)
    echo "more_speech.sh: $model: give conformer or whisper" >&2
    exit 2
    ;;
esac

"$PYTHON" -m speechbrain_ee.cli evaluate "$run" --manifest data/speech/dev.jsonl \
    --manifest data/speech/test-librispeech-other.jsonl --manifest data/speech/test-speechocean762.jsonl \
    --manifest data/speech2/test-librispeech-clean.jsonl --manifest data/speech2/test-commonvoice.jsonl
"$PYTHON" benchmarks/calibrated.py "$run" --out "$out/$model.json" --promise 1 --promise-on test-speechocean762
