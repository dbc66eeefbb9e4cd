#!/usr/bin/env bash
# Checks of aip on a machine with a GPU, in one go of some minutes. The results go to a folder, with a summary.
#
#   benchmarks/gpu.sh [--cpu] [--python PYTHON] [--wheels FOLDER] [FOLDER]
#
# --cpu     run the same steps on the CPU with tiny sizes, to find errors of this script
# --python  use this environment, in which aip is installed, instead of a new one
# --wheels  install from the wheels in this folder instead of the registry
set -uo pipefail
cd "$(dirname "$0")/.."
root=$PWD cpu="" python="" pip=() out=""
while [ $# -gt 0 ]; do
  case $1 in
    --cpu) cpu=yes ;;
    --python) python=$(realpath -s "$2"); shift ;;
    --wheels) pip=(--no-index --find-links "$(realpath "$2")"); shift ;;
    *) out=$1 ;;
  esac
  shift
done
out=$(realpath "${out:-gpu-results-$(date +%Y%m%d-%H%M%S)}")
mkdir -p "$out" && cd "$out" || exit 1
if [ -n "$cpu" ]; then export CUDA_VISIBLE_DEVICES=-1; fi
export TF_CPP_MIN_LOG_LEVEL=2 COLUMNS=160
failed=0

say() { echo "$@" | tee -a summary.txt; }

# step NAME COMMAND...: runs a command with its output in NAME.log, and records its exit status and time.
step() {
  local name=$1 begun=$SECONDS status
  shift
  "$@" > "$name.log" 2>&1
  status=$?
  [ $status = 0 ] || failed=$((failed + 1))
  say "$([ $status = 0 ] && echo ok || echo FAILED) $name ($((SECONDS - begun)) s)"
  [ $status = 0 ] || tail -n 5 "$name.log" | tee -a summary.txt
}

# shown PATTERN NAME: adds the matching lines of a log to the summary.
shown() { grep -hE "$1" "$2.log" | sed 's/^/    /' | tee -a summary.txt; }

# train NAME WORDS...: trains, and adds the loop, the last epoch and the memory to the summary.
train() {
  local name=$1
  shift
  step "$name" "$aip" train "$@" --trainer.random_seed 1 --trainer.output_dir "$name"
  shown '^(device|loop|Peak memory)' "$name"
  grep -hE '^epoch' "$name.log" | tail -n 1 | sed 's/^/    /' | tee -a summary.txt
}

say "$(date -u +%FT%TZ) $(git -C "$root" rev-parse --short HEAD 2> /dev/null)"
[ -n "$cpu" ] || say "$(nvidia-smi --query-gpu=name,driver_version,memory.total --format=csv,noheader || echo no GPU)"

install() {
  python3 -m venv environment &&
    "$python" -m pip install --quiet "${pip[@]}" --constraint "$root/constraints.txt" "$root[gpu,test]"
}
if [ -z "$python" ]; then
  python=$out/environment/bin/python
  step install install
  # Peers. Rows of the table are smaller without them.
  step install-peers "$python" -m pip install --quiet "${pip[@]}" torch lightning
fi
aip=$(dirname "$python")/aip

step doctor "$aip" doctor
shown '^devices' doctor
epochs=${cpu:+1} images=${cpu:+64} exact_epochs=${cpu:+3}
train tutorial tutorial --trainer.epochs "${epochs:-5}"

# The table of training speed. On a GPU, XLA is fast for convolutions too.
speed=(--rounds 3 --every-peer --row mlp table cnn resnet resnet-bfloat16 transformer gpt gpt-bfloat16)
[ -z "$cpu" ] || speed=(--quick --row mlp)
step speed "$python" "$root/benchmarks/training_speed.py" --json speed.json "${speed[@]}"
shown '^\|' speed

# Fused kernels, the choice of XLA, and precisions, on a ResNet: compare the times of the last epochs.
resnet=(image_classification --model.graph ResNet --train.batch_size 64 --trainer.epochs "${epochs:-10}"
  --trainer.export_best false ${images:+--train.limit "$images" --val.limit "$images"})
# On a CPU, XLA compiles convolutions for minutes, and float16 is as slow as bfloat16.
choices="auto on off" precisions="bfloat16 float16"
[ -z "$cpu" ] || choices=off precisions=bfloat16
for fused in true false; do
  for jit in $choices; do
    train "resnet-fused-$fused-xla-$jit" "${resnet[@]}" --trainer.fused_kernels $fused --trainer.jit_compile "$jit"
  done
done
for precision in $precisions; do
  train "resnet-$precision" "${resnet[@]}" --trainer.precision "$precision"
done

# Deterministic runs: two at the same time on one GPU, and one that is killed and resumed, end with the same bits.
exact=(tutorial --model.graph CNN --trainer.deterministic true --trainer.tune off --checkpoint.every_steps 16
  --trainer.epochs "${exact_epochs:-6}")
both() {
  "$aip" train "${exact[@]}" --trainer.random_seed 1 --trainer.output_dir exact-first > first.log 2>&1 &
  local first=$!
  "$aip" train "${exact[@]}" --trainer.random_seed 1 --trainer.output_dir exact-second
  wait $first
}
killed() {
  rm -rf exact-killed
  "$aip" train "${exact[@]}" --trainer.random_seed 1 --trainer.output_dir exact-killed &
  local run=$!
  # The first checkpoint is that of step 0. An epoch has 91 steps.
  while kill -0 $run 2> /dev/null && ! compgen -G "exact-killed/checkpoint/step-00000001*" > /dev/null; do
    sleep 0.05
  done
  kill -9 $run || return 1
  wait $run
  [ $? = 137 ] && "$aip" resume exact-killed
}
same() {
  "$python" - "$@" << 'END'
import sys
from pathlib import Path

import numpy as np

first, second = (np.load(max(Path(each, "checkpoint").glob("step-*")) / "variables.npz") for each in sys.argv[1:])
assert first.files == second.files
different = [name for name in first.files if first[name].tobytes() != second[name].tobytes()]
if different:
    sys.exit(f"{len(different)} of {len(first.files)} variables differ: {', '.join(different[:3])}")
print(f"{len(first.files)} variables have the same bits.")
END
}
step two-processes both
step same-of-two same exact-first exact-second
step kill-and-resume killed
step same-after-kill same exact-first exact-killed
say "$failed failed, $((SECONDS / 60)) minutes: $out/summary.txt"
[ $failed = 0 ]
