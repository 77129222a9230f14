//! Who may ask at the brokers' listener: those who know a token of a file.
//!
//! The listener answers for sessions without seeing a secret again, so it has to know whom it answers.
//! A caller shows its token in `X-Keyward-Caller`, as the password of HTTP Basic, or, if it can send
//! neither, at the begin of the path: `/caller/<token>/forward-auth`.

use std::convert::Infallible;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, Uri};
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};
use thiserror::Error;
use tower::util::Either;
use tower::{Service, ServiceExt};
use tracing::{info, warn};

use super::http::basic;

/// So often the file is read.
const LOOK: Duration = Duration::from_secs(10);

/// Characters of the shortest token.
const SHORTEST: usize = 16;

const HEADER: &str = "x-keyward-caller";
const PATH: &str = "/caller/";

/// Those who may ask. Clones are one and the same.
#[derive(Clone)]
pub struct Callers(Option<Arc<Inner>>);

struct Inner {
    file: PathBuf,
    tokens: RwLock<Vec<Token>>,
}

/// Its digest: tokens of all lengths are compared in one time.
type Token = [u8; 32];

impl Callers {
    /// Everybody who reaches the listener.
    pub fn anybody() -> Callers {
        Callers(None)
    }

    /// Those who know a line of this file.
    ///
    /// # Errors
    /// When it cannot be read, or a line is no token.
    pub fn of_file(file: PathBuf) -> Result<Callers, CallersError> {
        let tokens = RwLock::new(read(&file)?);
        Ok(Callers(Some(Arc::new(Inner { file, tokens }))))
    }

    /// Reads the file from time to time. Never ends.
    pub async fn keep_up(&self) {
        let Some(inner) = &self.0 else {
            return std::future::pending().await;
        };
        loop {
            tokio::time::sleep(LOOK).await;
            match read(&inner.file) {
                Ok(tokens) => {
                    let mut known = inner.tokens.write().unwrap_or_else(PoisonError::into_inner);
                    if *known != tokens {
                        info!(tokens = tokens.len(), "the callers' tokens have changed");
                        *known = tokens;
                    }
                }
                Err(error) => warn!("the callers' tokens stay as they are: {error}"),
            }
        }
    }

    /// These routes, for those who may ask.
    pub fn before<S>(&self, routes: S) -> Either<S, Router>
    where
        S: Service<Request, Response = Response, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send,
    {
        match &self.0 {
            None => Either::Left(routes),
            Some(inner) => Either::Right(
                Router::new()
                    .fallback(admit::<S>)
                    .with_state((Arc::clone(inner), routes)),
            ),
        }
    }
}

async fn admit<S>(State((inner, routes)): State<(Arc<Inner>, S)>, mut request: Request) -> Response
where
    S: Service<Request, Response = Response, Error = Infallible>,
{
    let in_path = path_token(request.uri());
    let token = in_path
        .as_ref()
        .map(|(token, _)| token.clone())
        .or_else(|| header_token(request.headers()));
    if !token.is_some_and(|token| inner.knows(&token)) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    if let Some((_, rest)) = in_path {
        *request.uri_mut() = rest;
    }
    match routes.oneshot(request).await {
        Ok(answer) => answer,
        Err(never) => match never {},
    }
}

/// The token at the begin of the path, and what is left without it.
fn path_token(uri: &Uri) -> Option<(String, Uri)> {
    let (token, _) = uri.path().strip_prefix(PATH)?.split_once('/')?;
    let whole = uri.path_and_query()?.as_str();
    let rest = whole.strip_prefix(PATH)?.strip_prefix(token)?;
    Some((token.to_owned(), rest.parse().ok()?))
}

fn header_token(headers: &HeaderMap) -> Option<String> {
    let own = headers.get(HEADER).and_then(|value| value.to_str().ok());
    let own = own.map(str::to_owned);
    own.or_else(|| basic(headers).map(|(_, password)| password.to_string()))
}

impl Inner {
    fn knows(&self, token: &str) -> bool {
        let token = digest(token);
        let known = self.tokens.read().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().map(|known| known.ct_eq(&token));
        found.fold(Choice::from(0), |any, one| any | one).into()
    }
}

fn digest(token: &str) -> Token {
    Sha256::digest(token).into()
}

fn read(file: &PathBuf) -> Result<Vec<Token>, CallersError> {
    let text = std::fs::read_to_string(file).map_err(|cause| CallersError::Read {
        file: file.clone(),
        cause,
    })?;
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let is_lawful = |line: &str| {
        line.len() >= SHORTEST
            && line
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte))
    };
    let tokens: Vec<&str> = lines.collect();
    if tokens.is_empty() || !tokens.iter().all(|line| is_lawful(line)) {
        return Err(CallersError::Unusable(file.clone()));
    }
    Ok(tokens.into_iter().map(digest).collect())
}

/// Why it cannot be said who may ask.
#[derive(Debug, Error)]
pub enum CallersError {
    /// The file cannot be read.
    #[error("cannot read {} (--caller-token-file): {cause}", file.display())]
    Read {
        /// Which.
        file: PathBuf,
        /// What the system said.
        cause: io::Error,
    },
    /// It holds something else.
    #[error(
        "{} (--caller-token-file) must hold a token a line, each of 16 or more letters, digits and -_.~",
        _0.display()
    )]
    Unusable(PathBuf),
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;

    use super::*;

    const TOKEN: &str = "0123456789abcdef";

    fn routes() -> Either<Router, Router> {
        let inner = Inner {
            file: PathBuf::new(),
            tokens: RwLock::new(vec![digest("another-of-16-or-more"), digest(TOKEN)]),
        };
        let routes = Router::new().route("/x", get(|uri: Uri| async move { uri.to_string() }));
        Callers(Some(Arc::new(inner))).before(routes)
    }

    async fn ask(path: &str, headers: &[(&str, &str)]) -> (u16, String) {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Body::empty()).expect("a request");
        let answer = routes().oneshot(request).await.expect("an answer");
        let status = answer.status().as_u16();
        let body = axum::body::to_bytes(answer.into_body(), 1000)
            .await
            .expect("a body");
        (status, String::from_utf8(body.to_vec()).expect("text"))
    }

    #[tokio::test]
    async fn who_knows_a_token_may_ask_and_nobody_else() {
        use base64ct::{Base64, Encoding};
        let basic = |password: &str| {
            format!(
                "Basic {}",
                Base64::encode_string(format!("x:{password}").as_bytes())
            )
        };
        let ok = (200, "/x?y=1".to_owned());
        assert_eq!(ask("/x?y=1", &[(HEADER, TOKEN)]).await, ok);
        assert_eq!(ask("/x?y=1", &[("authorization", &basic(TOKEN))]).await, ok);
        assert_eq!(ask(&format!("/caller/{TOKEN}/x?y=1"), &[]).await, ok);
        let no = (401, String::new());
        assert_eq!(ask("/x?y=1", &[]).await, no);
        assert_eq!(ask("/x?y=1", &[(HEADER, "")]).await, no);
        assert_eq!(ask("/x?y=1", &[(HEADER, "0123456789abcdeF")]).await, no);
        assert_eq!(
            ask("/x?y=1", &[("authorization", &basic("wrong"))]).await,
            no
        );
        assert_eq!(ask("/caller/wrong/x", &[]).await, no);
        assert_eq!(ask("/caller/wrong/x", &[(HEADER, TOKEN)]).await, no);
        assert_eq!(ask(&format!("/caller/{TOKEN}"), &[]).await, no);
        assert_eq!(ask("/nowhere", &[]).await, no, "also of what is not there");
    }

    #[test]
    fn a_file_holds_a_token_a_line() {
        let folder = std::env::temp_dir().join(format!("keyward-callers-{}", std::process::id()));
        std::fs::create_dir_all(&folder).expect("a folder");
        let file = folder.join("tokens");
        for (text, tokens) in [
            ("0123456789abcdef\n\n  fedcba9876543210 \n", Some(2)),
            ("", None),
            ("short\n", None),
            ("0123456789abcdef/x\n", None),
        ] {
            std::fs::write(&file, text).expect("a file");
            assert_eq!(
                read(&file).ok().map(|tokens| tokens.len()),
                tokens,
                "{text:?}"
            );
        }
        std::fs::remove_dir_all(&folder).expect("it is there");
        assert!(matches!(read(&file), Err(CallersError::Read { .. })));
    }
}
