//! Jinja out of files that nobody vouches for: what a template makes, and how long it runs, is bounded.
//!
//! minijinja counts instructions and nothing else: 24 doublings of a string are a hundred instructions and hundreds of
//! megabytes. Here whatever makes text or looks through it is charged to a budget of bytes before it is done. Filters,
//! methods and what is written out have hooks. Operators and plain text have none, so the compiled code is rewritten: an
//! operator becomes a filter, and plain text a constant that is written out.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use minijinja::machinery::{
    CompiledTemplate, Instruction, Instructions, TemplateConfig, Token, Vm, WhitespaceConfig, make_string_output,
    tokenize,
};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Rest, Value, ValueKind};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, State, context, escape_formatter};

use super::python;

type Result<T> = std::result::Result<T, Error>;

/// How deep macros may nest; wasm's stack is small.
const DEPTH: usize = 64;
/// How deep lists and maps may nest where they are written out.
const NESTED: usize = 64;
/// Elements of a list that an operator makes, as many as minijinja's `range` gives.
const ELEMENTS: usize = 100_000;
/// What a constant may come to, in bytes.
const CONSTANT: u128 = 1 << 20;
/// What an element weighs beside its text.
const ELEMENT: usize = 16;

/// The operators that make text or lists, as filters. No template can name them.
const OPERATORS: [(&str, &str); 4] = [("+", "a + b"), ("*", "a * b"), ("~", "a ~ b"), ("[:]", "a[b:c:d]")];

/// What a template may spend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// Instructions.
    pub fuel: u64,
    /// Bytes of text made or looked through, all of them counted.
    pub bytes: usize,
}

/// A template wanted to make more text than its limit.
#[derive(Debug, thiserror::Error)]
#[error("more than {0} bytes of text")]
pub(super) struct OverBudget(usize);

/// Bytes that are left to a rendering.
#[derive(Debug)]
struct Budget {
    all: usize,
    left: AtomicUsize,
}

/// Compiles a template, to see whether it can be.
pub(super) fn check(name: &str, source: &str) -> Result<()> {
    compile(name, source).map(|_| ())
}

/// Renders a template. `plain` has the filters, functions and methods that it may use.
pub(super) fn render(
    name: &str,
    source: &str,
    plain: &Arc<Environment<'static>>,
    values: Value,
    limits: Limits,
) -> Result<String> {
    let template = compile(name, source)?;
    let mut filters = Vec::new();
    let code = metered(&template.instructions, &mut filters);
    let blocks: BTreeMap<_, _> =
        template.blocks.iter().map(|(name, block)| (*name, metered(block, &mut filters))).collect();
    let env = environment(plain, limits, &filters);
    let mut text = String::new();
    Vm::new(&env).eval(&code, values, &blocks, &mut make_string_output(&mut text), AutoEscape::None)?;
    Ok(text)
}

fn compile<'a>(name: &'a str, source: &'a str) -> Result<CompiledTemplate<'a>> {
    let ws_config = WhitespaceConfig { trim_blocks: true, lstrip_blocks: true, ..Default::default() };
    check_constants(source, ws_config)?;
    let config =
        TemplateConfig { syntax_config: SyntaxConfig, ws_config, default_auto_escape: Arc::new(|_| AutoEscape::None) };
    CompiledTemplate::new(name, source, &config)
}

/// Refuses what the compiler would work out into a large constant: of one tag's texts and numbers, each of which stands
/// there once, no multiplication makes more than all texts together times all numbers.
fn check_constants(source: &str, whitespace: WhitespaceConfig) -> Result<()> {
    let (mut texts, mut times, mut multiplies, mut has_text) = (0usize, 1u128, false, false);
    for token in tokenize(source, false, SyntaxConfig, whitespace) {
        // What is no token is told by the parser, with its place.
        let Ok((token, span)) = token else { return Ok(()) };
        match token {
            Token::VariableStart | Token::BlockStart => (texts, times, multiplies, has_text) = (0, 1, false, false),
            Token::Str(text) => (texts, has_text) = (texts + text.len(), true),
            Token::String(text) => (texts, has_text) = (texts + text.len(), true),
            Token::Tilde | Token::BracketOpen => has_text = true,
            Token::Int(n) => (texts, times) = (texts + ELEMENT, times.saturating_mul(u128::from(n) + 1)),
            Token::Int128(n) => times = times.saturating_mul(*n),
            Token::Float(n) => (texts, times) = (texts + ELEMENT, times.saturating_mul(n as u128 + 1)),
            Token::Mul => multiplies = true,
            Token::Pow => times = u128::MAX,
            Token::VariableEnd | Token::BlockEnd
                if multiplies && has_text && (texts as u128).saturating_mul(times) > CONSTANT =>
            {
                let message = format!("line {}: a text or list is repeated too often", span.start_line);
                return Err(Error::new(ErrorKind::SyntaxError, message));
            }
            _ => {}
        }
    }
    Ok(())
}

/// The same code with operators as filters and plain text written out like any value. Notes the filters it applies.
fn metered<'a>(code: &Instructions<'a>, filters: &mut Vec<&'a str>) -> Instructions<'a> {
    let all = || (0..).map_while(|i| code.get(i));
    // Plain text becomes two instructions, so what comes after it moves on.
    let mut moved = Vec::new();
    let mut at = 0;
    for instruction in all() {
        moved.push(at);
        at += if matches!(instruction, Instruction::EmitRaw(_)) { 2 } else { 1 };
    }
    let to = |target: u32| moved.get(target as usize).copied().unwrap_or(at);
    let mut new = Instructions::new(code.name(), code.source());
    for (i, instruction) in (0..).zip(all()) {
        let operator = |name, operands| Instruction::ApplyFilter(name, Some(operands), !0);
        let mut add = |instruction| match (code.get_span(i), code.get_line(i)) {
            (Some(span), _) => new.add_with_span(instruction, span),
            (None, Some(line)) => new.add_with_line(instruction, line as u16),
            (None, None) => new.add(instruction),
        };
        let metered = match instruction {
            Instruction::EmitRaw(text) => {
                add(Instruction::LoadConst(Value::from(*text)));
                Instruction::Emit
            }
            Instruction::Add => operator("+", 2),
            Instruction::Mul => operator("*", 2),
            Instruction::StringConcat => operator("~", 2),
            Instruction::Slice => operator("[:]", 4),
            Instruction::ApplyFilter(name, operands, local) => {
                filters.push(name);
                Instruction::ApplyFilter(name, *operands, *local)
            }
            Instruction::Iterate(target) => Instruction::Iterate(to(*target)),
            Instruction::Jump(target) => Instruction::Jump(to(*target)),
            Instruction::JumpIfFalse(target) => Instruction::JumpIfFalse(to(*target)),
            Instruction::JumpIfFalseOrPop(target) => Instruction::JumpIfFalseOrPop(to(*target)),
            Instruction::JumpIfTrueOrPop(target) => Instruction::JumpIfTrueOrPop(to(*target)),
            Instruction::BuildMacro(name, target, flags) => Instruction::BuildMacro(name, to(*target), *flags),
            other => other.clone(),
        };
        add(metered);
    }
    new
}

/// `plain` with everything charged.
fn environment(plain: &Arc<Environment<'static>>, limits: Limits, filters: &[&str]) -> Environment<'static> {
    let budget = Arc::new(Budget { all: limits.bytes, left: AtomicUsize::new(limits.bytes) });
    let mut env = Environment::clone(plain);
    env.set_fuel(Some(limits.fuel));
    env.set_recursion_limit(DEPTH);
    for name in filters {
        // A name that is none stays unknown.
        if plain.empty_state().apply_filter(name, &[]).is_err_and(|e| e.kind() == ErrorKind::UnknownFilter) {
            continue;
        }
        let (name, plain, budget) = (name.to_string(), plain.clone(), budget.clone());
        env.add_filter(name.clone(), move |values: Rest<Value>| {
            budget.charge_call(&name, &values)?;
            budget.charged(plain.empty_state().apply_filter(&name, &values)?)
        });
    }
    for (name, source) in OPERATORS {
        let (plain, budget) = (plain.clone(), budget.clone());
        env.add_filter(name, move |values: Rest<Value>| {
            budget.charge_operator(name, &values)?;
            let operand = |i: usize| {
                let value = values.get(i).cloned().unwrap_or_default();
                if name == "~" { python::stringified(value) } else { value }
            };
            let operands = context! { a => operand(0), b => operand(1), c => operand(2), d => operand(3) };
            plain.compile_expression(source)?.eval(operands)
        });
    }
    let methods = budget.clone();
    env.set_unknown_method_callback(move |state, value, method, values| {
        let all: Vec<Value> = std::iter::once(value).chain(values).cloned().collect();
        methods.charge_call(method, &all)?;
        methods.charged(minijinja_contrib::pycompat::unknown_method_callback(state, value, method, values)?)
    });
    env.set_formatter(move |out: &mut minijinja::Output, state: &State, value: &Value| {
        budget.charge(budget.weight(value)?)?;
        match python::str(value) {
            Some(text) => out.write_str(&text).map_err(Error::from),
            None => escape_formatter(out, state, value),
        }
    });
    env
}

impl Budget {
    fn over(&self) -> Error {
        Error::new(ErrorKind::InvalidOperation, "too much text").with_source(OverBudget(self.all))
    }

    fn charge(&self, bytes: usize) -> Result<()> {
        let take = |left: usize| left.checked_sub(bytes);
        self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).map_err(|_| self.over())?;
        Ok(())
    }

    /// A result, paid for.
    fn charged(&self, value: Value) -> Result<Value> {
        self.charge(size(&value)).map(|()| value)
    }

    /// Pays for what a filter or method looks through, and for what it makes beyond that.
    fn charge_call(&self, name: &str, values: &[Value]) -> Result<()> {
        if matches!(name, "length" | "count" | "first" | "last" | "default" | "d") && values.len() < 3 {
            return self.charge(ELEMENT);
        }
        let text = |i: usize| values.get(i).and_then(Value::as_str).unwrap_or_default();
        let mut bytes = 0usize;
        let mut largest = 0usize;
        for (i, value) in values.iter().enumerate() {
            // These write their values out, whatever is in them.
            let whole = matches!(name, "tojson" | "string" | "pprint" | "join" | "format") || value.is_kwargs();
            bytes = bytes.saturating_add(if whole { self.weight(value)? } else { size(value) });
            if i > 0 {
                largest = largest.max(number(value));
            }
        }
        bytes = bytes.saturating_add(largest);
        let more = match name {
            "replace" => {
                let found = if text(1).is_empty() { text(0).len() + 1 } else { text(0).matches(text(1)).count() };
                found.saturating_mul(text(2).len())
            }
            // The separator is the filter's second value, the method's first.
            "join" => {
                values.iter().filter_map(Value::len).max().unwrap_or(0).saturating_mul(text(0).len() + text(1).len())
            }
            "indent" | "tojson" => bytes.saturating_mul(largest),
            "format" => widest(text(0)),
            _ => 0,
        };
        self.charge(bytes.saturating_add(more))
    }

    /// Pays for an operator's result.
    fn charge_operator(&self, name: &str, values: &[Value]) -> Result<()> {
        let [a, b, ..] = values else { return Ok(()) };
        let texts = values.iter().any(|v| v.kind() == ValueKind::String);
        let bytes = match name {
            "~" => self.weight(a)?.saturating_add(self.weight(b)?),
            "*" if texts => size(a).max(size(b)).saturating_mul(number(a).max(number(b))),
            "*" => return self.elements(count(a).max(count(b)).saturating_mul(number(a).max(number(b)))),
            "+" if !texts => return self.elements(count(a).saturating_add(count(b))),
            _ => size(a).saturating_add(size(b)),
        };
        self.charge(bytes)
    }

    /// Lists are put together lazily: what they cost comes with their use, by their length.
    fn elements(&self, count: usize) -> Result<()> {
        if count > ELEMENTS { Err(self.over()) } else { self.charge(ELEMENT) }
    }

    /// The weight of a value with all that is in it.
    fn weight(&self, value: &Value) -> Result<usize> {
        let left = self.left.load(Ordering::Relaxed);
        let mut weight = 0;
        if weigh(value, NESTED, left, &mut weight) { Ok(weight) } else { Err(self.over()) }
    }
}

/// Adds a value's weight, until it is over `most` or too deep.
fn weigh(value: &Value, depth: usize, most: usize, weight: &mut usize) -> bool {
    let of_it = value.as_str().map_or(ELEMENT, str::len);
    *weight = weight.saturating_add(of_it);
    if *weight > most || depth == 0 {
        return false;
    }
    let (ValueKind::Seq | ValueKind::Iterable | ValueKind::Map) = value.kind() else { return true };
    let Ok(mut elements) = value.try_iter() else { return true };
    let map = value.kind() == ValueKind::Map;
    elements.all(|element| {
        let inner = if map { value.get_item(&element).unwrap_or_default() } else { Value::UNDEFINED };
        weigh(&element, depth - 1, most, weight) && (!map || weigh(&inner, depth - 1, most, weight))
    })
}

fn count(value: &Value) -> usize {
    if value.kind() == ValueKind::String { 0 } else { value.len().unwrap_or(0) }
}

/// The weight of a value without what is in its elements.
fn size(value: &Value) -> usize {
    value.as_str().map_or(ELEMENT + count(value).saturating_mul(ELEMENT), str::len)
}

/// How large a number is; a keyword argument's as well.
fn number(value: &Value) -> usize {
    if value.is_kwargs() {
        let values = value.try_iter().into_iter().flatten();
        return values.map(|key| number(&value.get_item(&key).unwrap_or_default())).max().unwrap_or(0);
    }
    if value.kind() != ValueKind::Number {
        return 0;
    }
    f64::try_from(value.clone()).map_or(0, |n| n.abs() as usize)
}

/// The largest number in a format, which may be a width.
fn widest(format: &str) -> usize {
    let digits = format.split(|c: char| !c.is_ascii_digit()).filter(|d| !d.is_empty());
    digits.map(|d| d.parse().unwrap_or(usize::MAX)).max().unwrap_or(0)
}
