//! What a source tells of itself.

use tokio::sync::mpsc;
use tracing::warn;

use super::Unheard;
use crate::observe::{Observation, SourceName};

/// Tells whether a source answers, each time that changes.
#[derive(Debug)]
pub(super) struct Condition {
    source: SourceName,
    /// `None` until something was told; else why it fails, if it does.
    told: Option<Result<(), String>>,
}

impl Condition {
    pub(super) fn new(source: SourceName) -> Self {
        Self { source, told: None }
    }

    /// Live means that it was listed and that nothing is failing.
    pub(super) async fn tell(
        &mut self,
        is_listed: bool,
        failure: Option<String>,
        sink: &mpsc::Sender<Observation>,
    ) -> Result<(), Unheard> {
        let now = match failure {
            Some(error) => Err(error),
            None if is_listed => Ok(()),
            None => return Ok(()),
        };
        if self.told.as_ref() == Some(&now) {
            return Ok(());
        }
        let fact = match &now {
            Ok(()) => Observation::Live(self.source),
            Err(error) => {
                let source = self.source.as_str();
                warn!(%error, "{source} failed; what it said before still counts, and it is tried again");
                Observation::Failed(self.source, error.clone())
            }
        };
        sink.send(fact).await?;
        self.told = Some(now);
        Ok(())
    }
}
