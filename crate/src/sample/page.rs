//! What JavaScript holds: grammars in a WebAssembly module of their own, and a caller's functions.

use std::future::Future;
use std::pin::Pin;

use js_sys::{Float32Array, Function, Promise, Uint32Array};
use wasm_bindgen::prelude::*;
use wasm_bindgen_futures::JsFuture;

use super::{Constraint, Grammars, LogitsProcessor, Mask};
use crate::config::StructuredOutputs;
use crate::error::{Error, ErrorCode, Result};

#[wasm_bindgen]
extern "C" {
    /// What JavaScript gives: an instance of the grammars' module that knows the model's vocabulary. Any object with these
    /// methods, which throw an `Error`; what they give names a constraint by its handle.
    ///
    /// ```ts
    /// interface PageModule {
    ///   /** Compiles `structured_outputs`, as JSON. */
    ///   compile(spec: string): number;
    ///   /** Another constraint, at the same place. */
    ///   copy(handle: number): number;
    ///   free(handle: number): void;
    ///   /** The words of the mask; none where nothing may follow. */
    ///   mask(handle: number): Uint32Array;
    ///   commit(handle: number, token: number): void;
    ///   /** At most so many tokens that must follow. */
    ///   forced(handle: number, most: number): Uint32Array;
    ///   /** How many of these tokens may follow; a view of the engine's memory that is good during the call alone. */
    ///   validate(handle: number, tokens: Uint32Array): number;
    /// }
    /// ```
    #[derive(Clone)]
    pub type PageModule;
    #[wasm_bindgen(method, catch)]
    fn compile(this: &PageModule, spec: &str) -> std::result::Result<u32, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn copy(this: &PageModule, handle: u32) -> std::result::Result<u32, JsValue>;
    #[wasm_bindgen(method)]
    fn free(this: &PageModule, handle: u32);
    #[wasm_bindgen(method, catch)]
    fn mask(this: &PageModule, handle: u32) -> std::result::Result<Vec<u32>, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn commit(this: &PageModule, handle: u32, token: u32) -> std::result::Result<(), JsValue>;
    #[wasm_bindgen(method, catch)]
    fn forced(this: &PageModule, handle: u32, most: u32) -> std::result::Result<Vec<u32>, JsValue>;
    #[wasm_bindgen(method, catch)]
    fn validate(this: &PageModule, handle: u32, tokens: &[u32]) -> std::result::Result<u32, JsValue>;
}

/// Grammars in a page.
pub struct PageGrammars(PageModule);

impl PageGrammars {
    /// Those of this object.
    pub fn new(module: PageModule) -> Self {
        Self(module)
    }
}

impl Grammars for PageGrammars {
    fn compile(&self, outputs: &StructuredOutputs) -> Result<Box<dyn Constraint>> {
        let refused = |thrown| Error::refused_grammar(&message(&thrown));
        let handle = self.0.compile(&outputs.to_json()).map_err(refused)?;
        Ok(Box::new(PageConstraint { module: self.0.clone(), handle }))
    }
}

struct PageConstraint {
    module: PageModule,
    handle: u32,
}

impl Constraint for PageConstraint {
    fn mask(&mut self, mask: &mut Mask) -> Result<()> {
        mask.words = self.module.mask(self.handle).map_err(failed)?;
        Ok(())
    }

    fn commit(&mut self, token: u32) -> Result<()> {
        self.module.commit(self.handle, token).map_err(failed)
    }

    fn forced(&mut self, most: usize) -> Result<Vec<u32>> {
        self.module.forced(self.handle, most.try_into().unwrap_or(u32::MAX)).map_err(failed)
    }

    fn validate(&mut self, tokens: &[u32]) -> Result<usize> {
        Ok(self.module.validate(self.handle, tokens).map_err(failed)? as usize)
    }

    fn copy(&self) -> Result<Box<dyn Constraint>> {
        let handle = self.module.copy(self.handle).map_err(failed)?;
        Ok(Box::new(Self { module: self.module.clone(), handle }))
    }
}

impl Drop for PageConstraint {
    fn drop(&mut self) {
        self.module.free(self.handle);
    }
}

fn failed(thrown: JsValue) -> Error {
    Error::failed_grammar(&message(&thrown))
}

fn message(thrown: &JsValue) -> String {
    thrown.dyn_ref::<js_sys::Error>().map_or_else(|| format!("{thrown:?}"), |error| error.message().into())
}

/// A function of a page that gets the ids of an output so far, the next token's logits and the prompt's ids, each as an array of its
/// own, and gives the logits, or a promise of them.
pub struct PageProcessor(pub Function);

impl LogitsProcessor for PageProcessor {
    fn process<'a>(
        &'a self,
        prompt: &'a [u32],
        output: &'a [u32],
        logits: &'a mut [f32],
    ) -> Pin<Box<dyn Future<Output = Result<()>> + 'a>> {
        let (ids, row) = (Uint32Array::from(output), Float32Array::from(&*logits));
        let called = self.0.call3(&JsValue::NULL, &ids, &row, &Uint32Array::from(prompt));
        Box::pin(async move {
            let threw = |thrown| {
                Error::new(ErrorCode::InvalidParams, format!("a logits processor threw: {}", message(&thrown)))
            };
            let given = JsFuture::from(Promise::resolve(&called.map_err(threw)?)).await.map_err(threw)?;
            let changed = given.dyn_ref::<Float32Array>().filter(|changed| changed.length() == row.length());
            let Some(changed) = changed else {
                let message = format!("a logits processor gave no Float32Array of {} logits", row.length());
                return Err(Error::new(ErrorCode::InvalidParams, message));
            };
            changed.copy_to(logits);
            Ok(())
        })
    }
}
