//! Grammars as a WebAssembly module: an instance serves one model. It is fetched by the first request that has a grammar.
//!
//! What is long crosses by two buffers. JavaScript asks where to write ([`embergram_input`]) before a call that takes bytes, and
//! reads what a call left ([`embergram_answer`], [`embergram_answer_bytes`]): words of a mask, tokens, or the message of an error,
//! which is there where a call gives less than 0.

use std::cell::RefCell;

use embergram_grammar::{Constraint, Grammars};

#[link(wasm_import_module = "env")]
unsafe extern "C" {
    /// Tokenizes the text in these bytes, and puts its tokens where [`embergram_tokens`] says.
    fn tokenize(text: *const u8, bytes: u32);
}

thread_local! {
    static GRAMMARS: RefCell<Option<Grammars>> = const { RefCell::new(None) };
    static CONSTRAINTS: RefCell<Vec<Option<Constraint>>> = const { RefCell::new(Vec::new()) };
    static INPUT: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
    static TOKENS: RefCell<Vec<u32>> = const { RefCell::new(Vec::new()) };
    static ANSWER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

fn tokenized(text: &str) -> Vec<u32> {
    // SAFETY: JavaScript reads these bytes during the call alone.
    unsafe { tokenize(text.as_ptr(), text.len() as u32) };
    TOKENS.take()
}

/// Where JavaScript is to write so many bytes before the call that takes them.
#[unsafe(no_mangle)]
pub extern "C" fn embergram_input(bytes: u32) -> *mut u8 {
    INPUT.with_borrow_mut(|input| {
        input.clear();
        input.resize(bytes as usize, 0);
        input.as_mut_ptr()
    })
}

/// Where JavaScript is to write so many tokens before it returns from `tokenize`.
#[unsafe(no_mangle)]
pub extern "C" fn embergram_tokens(count: u32) -> *mut u32 {
    TOKENS.with_borrow_mut(|tokens| {
        tokens.clear();
        tokens.resize(count as usize, 0);
        tokens.as_mut_ptr()
    })
}

/// Where the answer of the last call is.
#[unsafe(no_mangle)]
pub extern "C" fn embergram_answer() -> *const u8 {
    ANSWER.with_borrow(|answer| answer.as_ptr())
}

/// Bytes of the answer.
#[unsafe(no_mangle)]
pub extern "C" fn embergram_answer_bytes() -> u32 {
    ANSWER.with_borrow(|answer| answer.len() as u32)
}

/// Leaves the message of an error, and gives -1 for one.
fn answered(result: Result<i32, String>) -> i32 {
    result.unwrap_or_else(|message| {
        ANSWER.set(message.into_bytes());
        -1
    })
}

fn answer_words(words: &[u32]) {
    ANSWER.with_borrow_mut(|answer| {
        answer.clear();
        answer.extend(words.iter().flat_map(|word| word.to_le_bytes()));
    });
}

fn with<R>(handle: u32, f: impl FnOnce(&mut Constraint) -> Result<R, String>) -> Result<R, String> {
    CONSTRAINTS.with_borrow_mut(|all| {
        let constraint = all.get_mut(handle as usize).and_then(Option::as_mut);
        f(constraint.ok_or("there is no such grammar")?)
    })
}

/// A place for a constraint: a free one, where there is one.
fn kept(constraint: Constraint) -> i32 {
    CONSTRAINTS.with_borrow_mut(|all| {
        let place = all.iter().position(Option::is_none).unwrap_or(all.len());
        if place == all.len() {
            all.push(None);
        }
        all[place] = Some(constraint);
        place as i32
    })
}

/// Takes the model's vocabulary out of the input; 0.
#[unsafe(no_mangle)]
pub extern "C" fn embergram_vocabulary() -> i32 {
    answered(Grammars::new(&INPUT.take(), Box::new(tokenized)).map(|grammars| {
        GRAMMARS.set(Some(grammars));
        0
    }))
}

/// Compiles the specification in the input; its handle.
#[unsafe(no_mangle)]
pub extern "C" fn embergram_compile() -> i32 {
    let spec = INPUT.take();
    answered(GRAMMARS.with_borrow(|grammars| {
        let grammars = grammars.as_ref().ok_or("the vocabulary is missing")?;
        let spec = str::from_utf8(&spec).map_err(|e| e.to_string())?;
        grammars.compile(spec).map(kept)
    }))
}

/// A copy that goes on from the same place; its handle.
#[unsafe(no_mangle)]
pub extern "C" fn embergram_copy(handle: u32) -> i32 {
    answered(with(handle, |constraint| Ok(constraint.clone())).map(kept))
}

/// Lets go of one.
#[unsafe(no_mangle)]
pub extern "C" fn embergram_free(handle: u32) {
    CONSTRAINTS.with_borrow_mut(|all| {
        if let Some(place) = all.get_mut(handle as usize) {
            *place = None;
        }
    });
}

/// Leaves the words of the mask; 0.
#[unsafe(no_mangle)]
pub extern "C" fn embergram_mask(handle: u32) -> i32 {
    let mut mask = Vec::new();
    answered(with(handle, |constraint| constraint.mask(&mut mask)).map(|()| {
        answer_words(&mask);
        0
    }))
}

/// Goes on by a token; 0.
#[unsafe(no_mangle)]
pub extern "C" fn embergram_commit(handle: u32, token: u32) -> i32 {
    answered(with(handle, |constraint| constraint.commit(token)).map(|()| 0))
}

/// Leaves the tokens that must come next; 0.
#[unsafe(no_mangle)]
pub extern "C" fn embergram_forced(handle: u32, most: u32) -> i32 {
    answered(with(handle, |constraint| Ok(constraint.forced(most as usize))).map(|tokens| {
        answer_words(&tokens);
        0
    }))
}

/// How many of the tokens in the input, each of four bytes, are allowed one after the other.
#[unsafe(no_mangle)]
pub extern "C" fn embergram_validate(handle: u32) -> i32 {
    let bytes = INPUT.take();
    let tokens: Vec<u32> =
        bytes.chunks_exact(4).map(|four| u32::from_le_bytes([four[0], four[1], four[2], four[3]])).collect();
    answered(with(handle, |constraint| Ok(constraint.validate(&tokens) as i32)))
}
