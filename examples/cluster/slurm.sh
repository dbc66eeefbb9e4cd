#!/bin/bash
# Train on 4 hosts with one process (task) per host. Start with: sbatch FILE
# Made with: aip launch --workers 4 --gpus 8 --cpus 32 --print slurm train tutorial --train.batch_size 1024 --trainer.output_dir runs/digits
#SBATCH --job-name=aip-digits
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --distribution=block
#SBATCH --signal=TERM@120
#SBATCH --requeue

# Two minutes before the time limit each process gets SIGTERM, and the run stops with a checkpoint. If one process ends,
# all end; --kill-on-bad-exit also ends tasks that are not connected to the others yet.
if [ -e runs/digits/params.json ]; then
  set -- resume runs/digits
else
  set -- train tutorial --train.batch_size 1024 --trainer.output_dir runs/digits --device.strategy multi_worker
fi
# The processes prove to each other that they belong to this job. srun passes the environment to all of them.
AIP_CLUSTER_SECRET=$(openssl rand -hex 32)
export AIP_CLUSTER_SECRET
# Since version 22.05, srun does not inherit --cpus-per-task.
exec srun --kill-on-bad-exit=1 ${SLURM_CPUS_PER_TASK:+--cpus-per-task="$SLURM_CPUS_PER_TASK"} aip "$@"
