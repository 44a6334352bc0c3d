//! Grammars for the engine natively, by the crate `embergram-grammar` itself.

use std::cell::Cell;
use std::rc::Rc;

use embergram::config::StructuredOutputs;
use embergram::llm::Llm;
use embergram::sample::{Constraint, Grammars, Mask};
use embergram::{Error, Result};

/// Whether what a grammar forces is drafted: without, each of its tokens takes a step, as without speculation.
pub type Forcing = Rc<Cell<bool>>;

struct Native {
    grammars: embergram_grammar::Grammars,
    forcing: Forcing,
}

struct NativeConstraint {
    constraint: embergram_grammar::Constraint,
    forcing: Forcing,
}

/// Gives a model grammars over its vocabulary.
pub fn add_grammars(llm: &mut Llm) -> Forcing {
    let tokenizer = llm.tokenizer().clone();
    let vocabulary = tokenizer.vocabulary();
    let tokenize = Box::new(move |text: &str| tokenizer.encode_rest(text).unwrap_or_default());
    let forcing = Forcing::new(Cell::new(true));
    let grammars = embergram_grammar::Grammars::new(&vocabulary, tokenize).unwrap();
    llm.set_grammars(Box::new(Native { grammars, forcing: forcing.clone() }));
    forcing
}

impl Grammars for Native {
    fn compile(&self, outputs: &StructuredOutputs) -> Result<Box<dyn Constraint>> {
        let constraint = self.grammars.compile(&outputs.to_json()).map_err(|why| Error::refused_grammar(&why))?;
        Ok(Box::new(NativeConstraint { constraint, forcing: self.forcing.clone() }))
    }
}

fn failed(why: String) -> Error {
    Error::failed_grammar(&why)
}

impl Constraint for NativeConstraint {
    fn mask(&mut self, mask: &mut Mask) -> Result<()> {
        self.constraint.mask(&mut mask.words).map_err(failed)
    }

    fn commit(&mut self, token: u32) -> Result<()> {
        self.constraint.commit(token).map_err(failed)
    }

    fn forced(&mut self, most: usize) -> Result<Vec<u32>> {
        Ok(if self.forcing.get() { self.constraint.forced(most) } else { Vec::new() })
    }

    fn validate(&mut self, tokens: &[u32]) -> Result<usize> {
        Ok(self.constraint.validate(tokens))
    }

    fn copy(&self) -> Result<Box<dyn Constraint>> {
        Ok(Box::new(Self { constraint: self.constraint.clone(), forcing: self.forcing.clone() }))
    }
}
