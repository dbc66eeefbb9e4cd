#!/bin/bash
# Train on all GPUs of 4 hosts with one process (task) per host: sbatch examples/cluster/slurm.sh
#SBATCH --job-name=aip
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --distribution=block
#SBATCH --signal=TERM@120
#SBATCH --requeue

# Two minutes before the time limit each process gets SIGTERM, and the run stops with a checkpoint. If one process ends,
# all end; --kill-on-bad-exit also ends tasks that are not connected to the others yet.
RUN=${RUN:-$PWD/runs/digits}
if [ -d "$RUN/checkpoint" ]; then
  WORDS=(resume "$RUN")
else
  WORDS=(train tutorial --train.batch_size 1024 --trainer.output_dir "$RUN" --device.strategy multi_worker)
fi
# The processes prove to each other that they belong to this job. srun passes the environment to all of them.
AIP_CLUSTER_SECRET=$(openssl rand -hex 32)
export AIP_CLUSTER_SECRET
exec srun --kill-on-bad-exit=1 aip "${WORDS[@]}"
