//! Removing the keys of deleted key backups, a part at a time: a step of a job.

use names::UserSn;
use users::backup;

use crate::jobs::{Job, Progress, Step};
use crate::{Lock, Node, NodeError, Touched};

impl Node {
    /// Removes the next part.
    pub(crate) async fn sweep_backups(
        &self,
        job: Job,
        progress: &Progress,
        user: UserSn,
    ) -> Result<Step, NodeError> {
        let _guard = self.lock(Lock::User(user)).await;
        let mut txn = self.begin();
        // What it returns says only whether another call may find something.
        backup::sweep(&mut txn, user)?;
        if txn.is_empty() {
            return Ok(Step::Done);
        }
        let moved = progress.after_step(0);
        job.put(&mut txn, &moved);
        let ticket = self.write(txn.into_batch(), &Touched::nobody())?;
        Ok(Step::Written(moved, ticket, Touched::nobody()))
    }
}
