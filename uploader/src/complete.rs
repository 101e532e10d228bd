//! Every part is there: the object is made and held to what was sent, or the upload is given up.

use std::sync::{Arc, PoisonError};

use shared::api::{CompletedObject, Problem};
use shared::{PartNumber, PartPlan};

use crate::error::UploadError;
use crate::progress::{Event, Silent};
use crate::transfer::Upload;
use crate::verify;

/// How often parts that the broker misses are sent again.
const SEND_AGAIN_TIMES: u32 = 2;

impl Upload {
    /// Completes an upload whose parts have all been sent or compared by this run, and holds the object to their MD5s: whoever
    /// else sent to the same upload may have had other bytes.
    pub(crate) async fn complete_sent(self: &Arc<Self>, plan: &PartPlan) -> Result<CompletedObject, UploadError> {
        let object = self.complete(plan).await?;
        let digests = std::mem::take(&mut *self.digests.lock().unwrap_or_else(PoisonError::into_inner));
        verify::hold(&object, &digests.into_values().collect::<Vec<_>>())?;
        Ok(object)
    }

    /// Has the broker join the parts; sends again those that it misses or mistrusts.
    pub(crate) async fn complete(self: &Arc<Self>, plan: &PartPlan) -> Result<CompletedObject, UploadError> {
        let mut sent_again = 0;
        loop {
            self.source.check()?;
            self.progress.event(&Event::Completing);
            let error = match self
                .engine
                .broker
                .complete(&self.id, plan.size(), &*self.progress)
                .await
            {
                Ok(object) if object.size == plan.size() => return Ok(object),
                Ok(object) => {
                    return Err(UploadError::Contradiction(format!(
                        "the object {} has {} bytes, the file {}",
                        object.key,
                        object.size,
                        plan.size()
                    )));
                }
                Err(error) => error,
            };
            let missing = match error {
                UploadError::Refused { problem, .. } if is_about_parts(&problem) => problem.parts,
                other => return Err(other),
            };
            // What was read of a stream is gone once the store has taken it.
            if sent_again == SEND_AGAIN_TIMES || self.source.held().is_some() {
                return Err(UploadError::PartsMissing(missing));
            }
            sent_again += 1;
            self.take_back(plan, &missing);
            self.send_parts(plan, &missing, Vec::new()).await?;
        }
    }

    /// Counts parts as not sent after all.
    fn take_back(&self, plan: &PartPlan, parts: &[PartNumber]) {
        let bytes = parts.iter().filter_map(|number| plan.part_len(*number)).sum();
        self.progress.event(&Event::Unsent { bytes });
    }

    /// Gives the upload up because of this failure, which then says so if there is room in it.
    pub(crate) async fn give_up(&self, why: UploadError) -> UploadError {
        let aborted = self.engine.broker.abort(&self.id, &Silent).await.is_ok();
        self.forget();
        match why {
            UploadError::SourceChanged { path, change, .. } => UploadError::SourceChanged { path, change, aborted },
            other => other,
        }
    }
}

/// Whether sending the parts that the problem names again may help.
fn is_about_parts(problem: &Problem) -> bool {
    matches!(problem.code.as_str(), "parts_missing" | "parts_wrong") && !problem.parts.is_empty()
}
