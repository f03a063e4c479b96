// The states of a job, as its snapshots name them.

export const FINAL = new Set(["SUCCESS", "FAILURE", "REVOKED"]);

export function isRunning(job) {
  return job.state === "STARTED" || job.state === "PROGRESS";
}

// A running job of which nobody knows how much is left: also one that has begun a part that it had not declared.
export function isUnknown(job) {
  return isRunning(job) && (job.percent === null || job.stage?.of === null);
}
