//! The border to the broker: the functions that it calls, and those of its that are called here.
//!
//! Facts: mosquitto_plugin.h and mosquitto_broker.h of mosquitto 2.0.11; later versions have only added to them.
//!
//! All of the broker's calls come from its one thread, and its functions may be called from there alone: whoever has a
//! [`Broker`] is there, since it is made here only, for the time of a call, and cannot be sent to another thread.
//!
//! A call may come in the course of another: to end a client's session has the broker say so before that returns. So the
//! plugin is only ever shared (`&Plugin`), and holds no lock while it calls the broker.
//!
//! A panic must not reach the broker, which knows nothing of it: each call is answered as unsafe for nobody then.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::marker::PhantomData;
use std::net::IpAddr;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;

use keyward::brokers::mosquitto::{Answer, Client, Shown, Who};
use keyward::topics::Action;

use crate::log::{Level, Line};
use crate::plugin::Plugin;

/// `MOSQ_PLUGIN_VERSION`.
const VERSION: c_int = 5;

/// Of `enum mosq_err_t`.
mod error {
    use std::ffi::c_int;

    pub const SUCCESS: c_int = 0;
    pub const INVAL: c_int = 3;
    pub const AUTH: c_int = 11;
    pub const ACL_DENIED: c_int = 12;
    pub const UNKNOWN: c_int = 13;
    pub const PLUGIN_DEFER: c_int = 17;
}

/// Of `enum mosquitto_plugin_event`.
mod event {
    use std::ffi::c_int;

    pub const RELOAD: c_int = 1;
    pub const ACL_CHECK: c_int = 2;
    pub const BASIC_AUTH: c_int = 3;
    pub const TICK: c_int = 9;
    pub const DISCONNECT: c_int = 10;
}

/// `MOSQ_ACL_READ` and so on.
mod access {
    use std::ffi::c_int;

    pub const READ: c_int = 1;
    pub const WRITE: c_int = 2;
    pub const SUBSCRIBE: c_int = 4;
    pub const UNSUBSCRIBE: c_int = 8;
}

/// `MOSQ_LOG_INFO` and so on.
fn log_level(level: Level) -> c_int {
    match level {
        Level::Info => 1,
        Level::Warning => 4,
        Level::Error => 8,
        Level::Debug => 16,
    }
}

/// `mqtt 5`, as `mosquitto_client_protocol_version` tells it.
const MQTT_5: c_int = 5;

/// `struct mosquitto`, of which nothing is known.
#[repr(C)]
struct Context {
    _private: [u8; 0],
}

/// `struct mosquitto_opt`.
#[repr(C)]
struct Opt {
    key: *const c_char,
    value: *const c_char,
}

/// `struct mosquitto_evt_basic_auth`, as far as it is read.
#[repr(C)]
struct BasicAuth {
    future: *mut c_void,
    client: *mut Context,
    username: *const c_char,
    password: *const c_char,
}

/// `struct mosquitto_evt_acl_check`, as far as it is read.
#[repr(C)]
struct AclCheck {
    future: *mut c_void,
    client: *mut Context,
    topic: *const c_char,
    payload: *const c_void,
    properties: *mut c_void,
    access: c_int,
    payloadlen: u32,
    qos: u8,
    retain: bool,
}

/// `struct mosquitto_evt_disconnect`, as far as it is read.
#[repr(C)]
struct Disconnect {
    future: *mut c_void,
    client: *mut Context,
    reason: c_int,
}

/// `MOSQ_FUNC_generic_callback`.
type Callback = unsafe extern "C" fn(c_int, *mut c_void, *mut c_void) -> c_int;

// SAFETY: as mosquitto_broker.h declares them.
unsafe extern "C" {
    fn mosquitto_callback_register(
        identifier: *mut c_void,
        event: c_int,
        callback: Callback,
        event_data: *const c_void,
        user_data: *mut c_void,
    ) -> c_int;
    fn mosquitto_callback_unregister(
        identifier: *mut c_void,
        event: c_int,
        callback: Callback,
        event_data: *const c_void,
    ) -> c_int;
    fn mosquitto_client_address(client: *const Context) -> *const c_char;
    fn mosquitto_client_clean_session(client: *const Context) -> bool;
    fn mosquitto_client_id(client: *const Context) -> *const c_char;
    fn mosquitto_client_protocol_version(client: *const Context) -> c_int;
    fn mosquitto_client_username(client: *const Context) -> *const c_char;
    fn mosquitto_kick_client_by_clientid(client_id: *const c_char, with_will: bool) -> c_int;
    fn mosquitto_log_printf(level: c_int, format: *const c_char, ...);
}

/// What is called when.
const CALLBACKS: [(c_int, Callback); 5] = [
    (event::RELOAD, on_reload),
    (event::BASIC_AUTH, on_basic_auth),
    (event::ACL_CHECK, on_acl_check),
    (event::DISCONNECT, on_disconnect),
    (event::TICK, on_tick),
];

/// The broker, for the time of one of its calls.
pub struct Broker {
    /// It stays on the broker's thread.
    _of_its_thread: PhantomData<*const ()>,
}

impl Broker {
    /// On the broker's thread only.
    fn in_its_call() -> Broker {
        Broker {
            _of_its_thread: PhantomData,
        }
    }

    /// Writes a line to the broker's log.
    pub fn log(&self, line: &Line) {
        // What follows a NUL would be lost to C.
        let text = line.text.replace('\0', " ");
        let Ok(text) = CString::new(text) else { return };
        // SAFETY: this is the broker's thread; both are strings that end with NUL and live until it returns, and the
        // format takes one of them.
        unsafe {
            mosquitto_log_printf(
                log_level(line.level),
                c"keyward: %s".as_ptr(),
                text.as_ptr(),
            )
        }
    }

    /// Ends the session of the client with this ID, if there is one, and does not send its will. Is one known?
    pub fn kick(&self, client_id: &CStr) -> bool {
        // SAFETY: this is the broker's thread, nothing here is borrowed mutably or locked, and the string ends with NUL
        // and lives until it returns.
        let done = unsafe { mosquitto_kick_client_by_clientid(client_id.as_ptr(), false) };
        done == error::SUCCESS
    }
}

/// Which version of the interface is spoken here, of those that the broker speaks.
///
/// # Safety
/// `versions` are `count` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mosquitto_plugin_version(count: c_int, versions: *const c_int) -> c_int {
    let count = usize::try_from(count).unwrap_or(0);
    // SAFETY: as the caller promises.
    let is_spoken = (0..count).any(|at| unsafe { *versions.add(at) } == VERSION);
    if is_spoken { VERSION } else { -1 }
}

/// The broker starts. What it is given back in `user_data` it passes on in each call.
///
/// # Safety
/// `identifier` is the plugin's, `user_data` may be written to, and `options` are `count` pairs of strings.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mosquitto_plugin_init(
    identifier: *mut c_void,
    user_data: *mut *mut c_void,
    options: *const c_void,
    count: c_int,
) -> c_int {
    guarded(error::UNKNOWN, || {
        let broker = Broker::in_its_call();
        // SAFETY: as the caller promises.
        let options = unsafe { read_options(options.cast(), count) };
        match with_signals_blocked(|| Plugin::start(&options)) {
            Ok(plugin) => {
                let plugin = Box::into_raw(Box::new(Registered { plugin, identifier }));
                // SAFETY: as the caller promises.
                unsafe { *user_data = plugin.cast() };
                for (event, callback) in CALLBACKS {
                    // SAFETY: the identifier is the broker's own; what it passes on as user data lives until
                    // mosquitto_plugin_cleanup, where the callback is taken back first.
                    let done = unsafe {
                        mosquitto_callback_register(
                            identifier,
                            event,
                            callback,
                            ptr::null(),
                            plugin.cast(),
                        )
                    };
                    if done != error::SUCCESS {
                        broker.log(&Line::error(format!(
                            "mosquitto does not tell about event {event} (error {done}): it has to be 2.0.11 or later"
                        )));
                        return error::UNKNOWN;
                    }
                }
                error::SUCCESS
            }
            Err(error) => {
                crate::log::drain().iter().for_each(|line| broker.log(line));
                broker.log(&Line::error(error.to_string()));
                error::INVAL
            }
        }
    })
}

/// The broker ends.
///
/// # Safety
/// `user_data` is what mosquitto_plugin_init gave back, and is used no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn mosquitto_plugin_cleanup(
    user_data: *mut c_void,
    _options: *const c_void,
    _count: c_int,
) -> c_int {
    guarded(error::SUCCESS, || {
        if user_data.is_null() {
            return error::SUCCESS;
        }
        // SAFETY: it is the box that was made there, and as the caller promises nobody else's.
        let registered = unsafe { Box::from_raw(user_data.cast::<Registered>()) };
        for (event, callback) in CALLBACKS {
            // SAFETY: the identifier is the broker's own, and still there.
            unsafe {
                mosquitto_callback_unregister(registered.identifier, event, callback, ptr::null())
            };
        }
        registered.plugin.end();
        let broker = Broker::in_its_call();
        crate::log::drain().iter().for_each(|line| broker.log(line));
        error::SUCCESS
    })
}

/// What the broker keeps for us.
struct Registered {
    plugin: Plugin,
    /// The plugin, as the broker knows it.
    identifier: *mut c_void,
}

/// The configuration was read again; the plugin's options are not told. Others want to know, too: where anybody says
/// more than that it is not for him, the broker stops asking, and would not read its own files again.
unsafe extern "C" fn on_reload(_event: c_int, _data: *mut c_void, _user: *mut c_void) -> c_int {
    error::PLUGIN_DEFER
}

unsafe extern "C" fn on_basic_auth(_event: c_int, data: *mut c_void, user: *mut c_void) -> c_int {
    guarded(error::UNKNOWN, || {
        // SAFETY: the broker passes what was registered, and an event of this kind, which live until this returns.
        let (plugin, event) = unsafe { (plugin(user), &*data.cast::<BasicAuth>()) };
        // SAFETY: so do the client and its strings.
        let (id, username, password, address) = unsafe {
            (
                text(mosquitto_client_id(event.client)),
                text(event.username),
                text(event.password),
                text(mosquitto_client_address(event.client)),
            )
        };
        // What is no text is no ID, key or secret.
        let (Ok(id), Ok(username), Ok(password)) = (id, username, password) else {
            return error::AUTH;
        };
        let shown = Shown {
            id: id.unwrap_or_default(),
            username,
            password,
            source: address
                .ok()
                .flatten()
                .and_then(|address| address.parse::<IpAddr>().ok()),
        };
        match plugin.adapter.connect(client(event.client), &shown) {
            Answer::Yes => error::SUCCESS,
            Answer::No => error::AUTH,
            Answer::NotNow => error::UNKNOWN,
        }
    })
}

unsafe extern "C" fn on_acl_check(_event: c_int, data: *mut c_void, user: *mut c_void) -> c_int {
    guarded(error::ACL_DENIED, || {
        // SAFETY: the broker passes what was registered, and an event of this kind, which live until this returns.
        let (plugin, event) = unsafe { (plugin(user), &*data.cast::<AclCheck>()) };
        let action = match event.access {
            access::READ => Action::Receive,
            access::WRITE => Action::Publish {
                retain: event.retain,
            },
            access::SUBSCRIBE => Action::Subscribe {
                checks_deliveries: true,
            },
            // Whoever wants less may.
            access::UNSUBSCRIBE => return error::SUCCESS,
            _ => return error::ACL_DENIED,
        };
        // SAFETY: so do the client, its strings, and the topic.
        let (id, username, topic, has_address) = unsafe {
            (
                bytes(mosquitto_client_id(event.client)),
                bytes(mosquitto_client_username(event.client)),
                bytes(event.topic),
                !mosquitto_client_address(event.client).is_null(),
            )
        };
        let (Some(id), Some(username), Some(topic)) = (id, username, topic) else {
            return error::ACL_DENIED;
        };
        let who = Who {
            id,
            username,
            has_address,
        };
        match plugin.adapter.act(client(event.client), who, action, topic) {
            Answer::Yes => error::SUCCESS,
            Answer::No | Answer::NotNow => error::ACL_DENIED,
        }
    })
}

unsafe extern "C" fn on_disconnect(_event: c_int, data: *mut c_void, user: *mut c_void) -> c_int {
    guarded(error::SUCCESS, || {
        // SAFETY: the broker passes what was registered, and an event of this kind, which live until this returns.
        let (plugin, event) = unsafe { (plugin(user), &*data.cast::<Disconnect>()) };
        // SAFETY: so does the client.
        let is_over = unsafe {
            mosquitto_client_protocol_version(event.client) != MQTT_5
                && mosquitto_client_clean_session(event.client)
        };
        plugin.adapter.gone(client(event.client), is_over);
        error::SUCCESS
    })
}

unsafe extern "C" fn on_tick(_event: c_int, _data: *mut c_void, user: *mut c_void) -> c_int {
    guarded(error::SUCCESS, || {
        // SAFETY: the broker passes what was registered, which lives until this returns.
        let plugin = unsafe { plugin(user) };
        plugin.tick(&Broker::in_its_call());
        error::SUCCESS
    })
}

/// Does this; a panic ends here, and is answered so. It was logged where it happened.
fn guarded(if_panicked: c_int, call: impl FnOnce() -> c_int) -> c_int {
    catch_unwind(AssertUnwindSafe(call)).unwrap_or(if_panicked)
}

/// The plugin.
///
/// # Safety
/// `user` is what was registered, and lives as long as what is given back is used.
unsafe fn plugin<'a>(user: *mut c_void) -> &'a Plugin {
    // SAFETY: as the caller promises; it is only ever shared.
    let registered = unsafe { &*user.cast::<Registered>() };
    &registered.plugin
}

/// By where it lies.
fn client(context: *mut Context) -> Client {
    Client(context.addr())
}

/// A string of the broker's; none if there is none.
///
/// # Errors
/// When it is no UTF-8.
///
/// # Safety
/// It is NULL, or ends with NUL and lives as long as what is given back is used.
unsafe fn text<'a>(string: *const c_char) -> Result<Option<&'a str>, std::str::Utf8Error> {
    if string.is_null() {
        return Ok(None);
    }
    // SAFETY: as the caller promises.
    unsafe { CStr::from_ptr(string) }.to_str().map(Some)
}

/// The bytes of one of the broker's strings; none if there is none.
///
/// # Safety
/// As that of [`text`].
unsafe fn bytes<'a>(string: *const c_char) -> Option<&'a [u8]> {
    if string.is_null() {
        return None;
    }
    // SAFETY: as the caller promises.
    Some(unsafe { CStr::from_ptr(string) }.to_bytes())
}

/// What stands in the configuration, by name.
///
/// # Safety
/// `options` are `count` pairs of strings.
unsafe fn read_options(options: *const Opt, count: c_int) -> Vec<(String, String)> {
    let count = usize::try_from(count).unwrap_or(0);
    let string = |string: *const c_char| {
        // SAFETY: as the caller promises.
        let bytes = (!string.is_null()).then(|| unsafe { CStr::from_ptr(string) });
        bytes
            .map(|bytes| bytes.to_string_lossy().into_owned())
            .unwrap_or_default()
    };
    // SAFETY: as the caller promises.
    let options = (0..count).map(|at| unsafe { &*options.add(at) });
    options
        .map(|option| (string(option.key), string(option.value)))
        .collect()
}

/// Does this with all signals blocked, which threads that are started meanwhile keep: signals are the broker's.
fn with_signals_blocked<T>(call: impl FnOnce() -> T) -> T {
    // SAFETY: both sets are plain data that the functions fill in or read; a mask of zeros is a set.
    unsafe {
        let (mut all, mut before): (libc::sigset_t, libc::sigset_t) =
            (std::mem::zeroed(), std::mem::zeroed());
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let done = catch_unwind(AssertUnwindSafe(call));
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, ptr::null_mut());
        done.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}
