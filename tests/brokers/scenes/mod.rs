//! What is the same with each broker, but for its [habits](crate::habits). Each scene has devices and keys of its own, so
//! that one broker can serve all of them.

mod changes;
mod connects;
mod kept;
mod takeover;
mod topics;
mod wills;

pub use changes::*;
pub use connects::*;
pub use kept::*;
pub use takeover::*;
pub use topics::*;
pub use wills::*;

/// Gives another macro the names of all scenes, behind what it gets besides. The first wants no other beside it.
macro_rules! all_scenes {
    ($macro:ident! $($more:tt)*) => {
        $macro! { $($more)* [
            a_device_sees_and_commands_what_its_key_admits,
            who_may_connect_does_and_all_others_are_refused_alike,
            a_change_ends_the_sessions_that_it_concerns_and_no_others,
            a_session_ends_when_its_key_does,
            a_session_ends_with_its_secret,
            a_second_key_takes_a_session_over,
            a_will_is_sent_for_who_may_and_for_nobody_else,
            what_was_retained_is_seen_by_who_may_see_it,
            who_was_away_gets_what_it_may_see_when_it_comes,
        ] }
    };
}
pub(crate) use all_scenes;

/// Has a test, with a broker of its own, for each scene.
#[allow(unused_macros)]
macro_rules! tests {
    ($module:ident $version:ident [$($scene:ident,)*]) => {
        mod $module { $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scene() {
                let scene = crate::scene::Scene::of(crate::mqtt::Version::$version).await;
                crate::scenes::$scene(&scene).await;
            }
        )* }
    };
}
#[allow(unused_imports)]
pub(crate) use tests;
