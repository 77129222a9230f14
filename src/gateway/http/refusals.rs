//! Whoever is refused lets others go first. A flood of wrong secrets would be answered in turn with the devices
//! otherwise, and each of these would wait for all of it.

use axum::response::Response;
use tokio::task::yield_now;

/// Each time all go first that are ready by then. With so many, few of a flood have work done between two looks for what
/// has come.
const TURNS: usize = 16;

/// The answer; one that is no yes at the end of the queue.
pub(super) async fn held_back(answer: Response) -> Response {
    if !answer.status().is_success() {
        for _ in 0..TURNS {
            yield_now().await;
        }
    }
    answer
}

#[cfg(test)]
mod tests {
    use axum::response::IntoResponse;
    use futures::FutureExt;
    use http::StatusCode;

    use super::*;

    fn answer(status: u16) -> impl Future<Output = Response> {
        let status = StatusCode::from_u16(status).expect("a status");
        held_back(status.into_response())
    }

    #[test]
    fn a_yes_goes_out_at_once() {
        let answer = answer(200).now_or_never().expect("at once");
        assert_eq!(answer.status(), 200);
    }

    #[tokio::test]
    async fn whoever_comes_later_is_answered_before_a_refusal() {
        for status in [400, 401, 404, 503] {
            let mut refused = tokio::spawn(answer(status));
            yield_now().await;
            // It is under way.
            for _ in 0..TURNS / 2 {
                let later = tokio::spawn(answer(200)).await.expect("no panic");
                assert_eq!(later.status(), 200);
                assert!((&mut refused).now_or_never().is_none(), "{status} waits");
            }
            assert_eq!(refused.await.expect("no panic").status(), status);
        }
    }
}
