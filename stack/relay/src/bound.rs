//! What is being taken in at once. Requests are decoded before anything is asked of them, and are a multiple of their size
//! then; so the bytes that are under way have a bound, a lane each: what is sent by one takes no other's place, and not all
//! of the memory.

use std::{
    collections::HashMap,
    convert::Infallible,
    future::ready,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll},
};

use hyper::body::{Body as HttpBody, Bytes, Frame, SizeHint};
use tokio::sync::Semaphore;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{BoxFuture, Service, http},
    server::NamedService,
};
use tonic_types::{ErrorDetails, StatusExt as _};

use crate::{lane::Lane, options::REQUEST, service::AGAIN};

/// Header that names the lane of a request.
const LANE: &str = "clawker-lane";
/// Bytes of a lane's requests that are under way, at most: the largest of them, and some beside it.
const UNDER_WAY: usize = REQUEST + (4 << 20);

/// What of a lane is under way.
#[derive(Debug)]
pub struct UnderWay {
    left: Semaphore,
    /// Requests that there was no place for. Their senders were told to come again.
    pub put_off: AtomicU64,
}

impl Default for UnderWay {
    fn default() -> Self {
        Self { left: Semaphore::new(UNDER_WAY), put_off: AtomicU64::new(0) }
    }
}

impl UnderWay {
    /// Bytes that are.
    pub fn bytes(&self) -> u64 {
        UNDER_WAY.saturating_sub(self.left.available_permits()) as u64
    }
}

/// A service whose requests are of a lane, which they have among their extensions, and have its bound.
#[derive(Clone, Debug)]
pub struct Bounded<S> {
    inner: S,
    lanes: Arc<HashMap<String, Lane>>,
}

impl<S> Bounded<S> {
    /// `inner`, for the lanes by their names.
    pub const fn new(inner: S, lanes: Arc<HashMap<String, Lane>>) -> Self {
        Self { inner, lanes }
    }
}

impl<S: NamedService> NamedService for Bounded<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Bounded<S>
where
    S: Service<http::Request<Counted>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let name = request.headers().get(LANE).and_then(|name| name.to_str().ok());
        let Some(lane) = name.and_then(|name| self.lanes.get(name)).cloned() else {
            let answer = Status::invalid_argument(format!("{LANE} names no lane of this relay"));
            return Box::pin(ready(Ok(answer.into_http())));
        };
        let taken = Arc::new(Taken { lane: lane.clone(), bytes: AtomicUsize::new(0) });
        let mut request = request.map(|inner| Counted { inner, taken: Arc::clone(&taken) });
        request.extensions_mut().insert(lane);
        let answer = self.inner.call(request);
        Box::pin(async move {
            let answer = answer.await;
            // What was decoded is gone only now.
            drop(taken);
            answer
        })
    }
}

/// Bytes of one request, which others have no place for meanwhile.
struct Taken {
    lane: Lane,
    bytes: AtomicUsize,
}

impl Taken {
    /// Has `count` more.
    fn more(&self, count: usize) -> Result<(), Status> {
        let under_way = &self.lane.under_way;
        let permit = u32::try_from(count).ok().and_then(|count| under_way.left.try_acquire_many(count).ok());
        let Some(permit) = permit else {
            under_way.put_off.fetch_add(1, Ordering::Relaxed);
            return Err(Status::with_error_details(
                Code::ResourceExhausted,
                format!("more of the lane {} is under way than there is memory for", self.lane.name),
                ErrorDetails::with_retry_info(Some(AGAIN)),
            ));
        };
        permit.forget();
        self.bytes.fetch_add(count, Ordering::Relaxed);
        Ok(())
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.lane.under_way.left.add_permits(self.bytes.load(Ordering::Relaxed));
    }
}

/// The body of a request, which ends with an error where its lane has no place for more.
pub struct Counted {
    inner: Body,
    taken: Arc<Taken>,
}

impl HttpBody for Counted {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let frame = std::task::ready!(Pin::new(&mut self.inner).poll_frame(context));
        let counted = |frame: Result<Frame<Bytes>, Status>| {
            let frame = frame?;
            self.taken.more(frame.data_ref().map_or(0, Bytes::len))?;
            Ok(frame)
        };
        Poll::Ready(frame.map(counted))
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
