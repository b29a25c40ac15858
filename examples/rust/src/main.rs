//! Asks a model one question and prints the answer as it comes:  embed MODEL.gguf "question"
use std::ffi::{c_char, CStr, CString};
use std::io::Write;

#[repr(C)]
struct Message {
    role: *const c_char,
    content: *const c_char,
    size: usize,
}

/// The first fields of binhdan_request. `struct_size` tells the library which fields this program knows.
#[repr(C)]
struct Request {
    struct_size: u32,
    kind: i32,
    flags: u32,
    max_tokens: i32,
    tokens: *const i32,
    n_tokens: usize,
}

/// The first fields of binhdan_event, which the library allocates.
#[repr(C)]
struct Event {
    struct_size: u32,
    kind: i32,
    request: u64,
    token: i32,
    logprob: f32,
    text: *const c_char,
    text_size: usize,
    top: *const u8,
    n_top: usize,
    values: *const f32,
    n_values: usize,
    finish: i32,
}

extern "C" {
    fn binhdan_last_error() -> *const c_char;
    fn binhdan_model_open(path: *const c_char, options: *const u8, model: *mut u64) -> i32;
    fn binhdan_model_close(model: u64) -> i32;
    fn binhdan_engine_create(model: u64, options: *const u8, engine: *mut u64) -> i32;
    fn binhdan_engine_close(engine: u64) -> i32;
    fn binhdan_queue_create(engine: u64, queue: *mut u64) -> i32;
    fn binhdan_chat_tokenize(model: u64, family: i32, messages: *const Message, n: usize, generate: i32,
        tokens: *mut i32, capacity: usize, count: *mut usize) -> i32;
    fn binhdan_submit(engine: u64, queue: u64, request: *const Request, id: *mut u64) -> i32;
    fn binhdan_queue_next(queue: u64, timeout_ms: i32, event: *mut *mut Event) -> i32;
    fn binhdan_event_free(event: *mut Event);
}

const CHAT_AUTO: i32 = -1;
const TOO_SMALL: i32 = 12;
const EVENT_FINISHED: i32 = 2;
const FINISH_ERROR: i32 = 5;

fn check(status: i32) -> Result<(), String> {
    if status == 0 {
        return Ok(());
    }
    Err(unsafe { CStr::from_ptr(binhdan_last_error()) }.to_string_lossy().into_owned())
}

/// The tokens of the question in the model's chat format.
fn prompt(model: u64, question: &str) -> Result<Vec<i32>, String> {
    let role = CString::new("user").unwrap();
    let message = Message { role: role.as_ptr(), content: question.as_ptr().cast(), size: question.len() };
    let mut tokens = Vec::new();
    loop {
        let mut count = 0;
        let status = unsafe {
            binhdan_chat_tokenize(model, CHAT_AUTO, &message, 1, 1, tokens.as_mut_ptr(), tokens.len(), &mut count)
        };
        if status != TOO_SMALL {
            check(status)?;
            return Ok(tokens);
        }
        tokens.resize(count, 0);
    }
}

fn ask(path: &str, question: &str) -> Result<(), String> {
    let path = CString::new(path).map_err(|error| error.to_string())?;
    let (mut model, mut engine, mut queue, mut id) = (0, 0, 0, 0);
    check(unsafe { binhdan_model_open(path.as_ptr(), std::ptr::null(), &mut model) })?;
    check(unsafe { binhdan_engine_create(model, std::ptr::null(), &mut engine) })?;
    check(unsafe { binhdan_queue_create(engine, &mut queue) })?;
    let prompt = prompt(model, question)?;
    let struct_size = std::mem::size_of::<Request>() as u32;
    let (tokens, n_tokens) = (prompt.as_ptr(), prompt.len());
    let request = Request { struct_size, kind: 0, flags: 0, max_tokens: 512, tokens, n_tokens };
    check(unsafe { binhdan_submit(engine, queue, &request, &mut id) })?;
    loop {
        let mut event = std::ptr::null_mut();
        check(unsafe { binhdan_queue_next(queue, -1, &mut event) })?;
        let Some(found) = (unsafe { event.as_ref() }) else { continue };
        let text = unsafe { std::slice::from_raw_parts(found.text.cast::<u8>(), found.text_size) }.to_vec();
        let (ended, failed) = (found.kind == EVENT_FINISHED, found.finish == FINISH_ERROR);
        unsafe { binhdan_event_free(event) };
        if ended && failed { return Err(String::from_utf8_lossy(&text).into_owned()); }
        std::io::stdout().write_all(&text).and_then(|()| std::io::stdout().flush()).map_err(|e| e.to_string())?;
        if ended {
            println!();
            check(unsafe { binhdan_engine_close(engine) })?; // cancels what still runs, and closes its queues
            return check(unsafe { binhdan_model_close(model) });
        }
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    assert!(arguments.len() == 3, "usage: embed MODEL.gguf \"question\"");
    if let Err(message) = ask(&arguments[1], &arguments[2]) {
        eprintln!("embed: {message}");
        std::process::exit(1);
    }
}
