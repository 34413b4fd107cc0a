//! A lane: its file, and the thread that writes it. What comes while it writes is written together next.

use std::{io, sync::Arc, thread};

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use tokio::sync::{Notify, mpsc, oneshot};

use crate::{
    bound::UnderWay,
    store::{Done, OpenError, Store, Work},
};

/// Pieces of work that wait; whoever comes then waits before it.
const WAITING: usize = 32;

/// A lane. Its thread ends with the last of these.
#[derive(Clone, Debug)]
pub struct Lane {
    /// Its name.
    pub name: Arc<str>,
    /// Its file.
    pub store: Arc<Store>,
    /// What of it is being taken in.
    pub under_way: Arc<UnderWay>,
    work: mpsc::Sender<Job>,
    news: Arc<Notify>,
}

#[derive(Debug)]
struct Job {
    work: Work,
    answer: oneshot::Sender<Result<Done, LaneError>>,
}

/// Why something was not done to a lane's file.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LaneError {
    /// The file.
    #[error("{0}")]
    Store(Arc<OpenError>),
    /// The relay ends.
    #[error("the relay ends")]
    Ends,
}

impl Lane {
    /// Starts its thread.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn start(name: &str, store: Arc<Store>) -> io::Result<Self> {
        let (work, jobs) = mpsc::channel(WAITING);
        let news = Arc::new(Notify::new());
        let (of_thread, told) = (Arc::clone(&store), Arc::clone(&news));
        thread::Builder::new().name(format!("lane {name}")).spawn(move || write(&of_thread, jobs, &told))?;
        Ok(Self { name: name.into(), store, under_way: Arc::default(), work, news })
    }

    /// Keeps a request. When it returns, the records are on the disk.
    ///
    /// # Errors
    /// If they are not.
    pub async fn keep(&self, request: ExportLogsServiceRequest) -> Result<Done, LaneError> {
        self.have(Work::Keep(request)).await
    }

    /// Lets records go that were answered for.
    ///
    /// # Errors
    /// If they are still there.
    pub async fn settle(&self, sequences: Vec<u64>, rejected: u64) -> Result<(), LaneError> {
        self.have(Work::Settle { sequences, rejected }).await.map(drop)
    }

    /// Returns when there may be records that were not there before.
    pub async fn news(&self) {
        self.news.notified().await;
    }

    async fn have(&self, work: Work) -> Result<Done, LaneError> {
        let (answer, done) = oneshot::channel();
        self.work.send(Job { work, answer }).await.map_err(|_| LaneError::Ends)?;
        done.await.map_err(|_| LaneError::Ends)?
    }
}

fn write(store: &Store, mut jobs: mpsc::Receiver<Job>, news: &Notify) {
    while let Some(first) = jobs.blocking_recv() {
        let (mut work, mut answers) = (vec![first.work], vec![first.answer]);
        while work.len() < WAITING
            && let Ok(next) = jobs.try_recv()
        {
            work.push(next.work);
            answers.push(next.answer);
        }
        match store.commit(work) {
            Ok(done) => {
                for (answer, done) in answers.into_iter().zip(done) {
                    // Whoever asked may be gone; it is done all the same.
                    let _ = answer.send(Ok(done));
                }
                news.notify_one();
            }
            Err(error) => {
                tracing::error!(event = "store_failed", %error, "senders are told to try again");
                let error = LaneError::Store(Arc::new(error));
                for answer in answers {
                    let _ = answer.send(Err(error.clone()));
                }
            }
        }
    }
}
