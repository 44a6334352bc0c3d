//! Where a model's memory lies and its steps run: what a load needs of a GPU, or of the CPU's kernels.

use std::cell::RefCell;
use std::rc::Rc;

use crate::cpu::{CpuRunner, Kernels, SharedKernels, reserve};
use crate::gpu::weights::DeviceWords;
use crate::gpu::{Gpu, Plan, Tuning};
use crate::model::{Arrangement, Limits};
use crate::program::{Capacity, Numerics, Parameter, Precision, Program, Runner};
use crate::{Error, ErrorCode, Result};

/// A device with memory for parameters, and the runner that it has. Cloning it names the same device.
pub trait Backend: Clone {
    /// A parameter's memory.
    type Words: Clone;
    /// What runs programs there.
    type Runner: Runner + 'static;

    /// What messages call it.
    fn name(&self) -> &str;

    /// How its kernels read matrices.
    fn arrangement(&self) -> Arrangement;

    /// Most rows per step of a model with so many query heads.
    fn most_rows(&self, heads: usize) -> usize;

    /// Refuses what no buffer can hold; `what` names it, `remedy` says what would make it smaller.
    ///
    /// # Errors
    /// `adapter_too_small`
    fn fits(&self, bytes: u64, what: &str, remedy: &str) -> Result<()>;

    /// What went wrong on the device since it was opened, if anything.
    ///
    /// # Errors
    /// `device_lost`, `adapter_too_small`
    fn check(&self) -> Result<()>;

    /// Takes memory.
    ///
    /// # Errors
    /// `adapter_too_small`
    fn allocate(&self, bytes: u64, what: &str) -> Result<Self::Words>;

    /// Copies bytes, a multiple of four, to an offset, likewise.
    fn write(&self, words: &Self::Words, offset: u64, bytes: &[u8]);

    /// Sends what was written on its way, where writes wait.
    fn submit(&self);

    /// A runner of this program; its parameters may still be on their way.
    ///
    /// # Errors
    /// `adapter_too_small`, `invalid_config` for numerics that the backend does not have.
    fn runner(
        &self,
        program: &Program<'_, Parameter<Self::Words>>,
        capacity: Capacity,
        numerics: Numerics,
    ) -> Result<Self::Runner>;
}

impl Backend for Gpu {
    type Words = DeviceWords;
    type Runner = Plan;

    fn name(&self) -> &str {
        &self.adapter.name
    }

    fn arrangement(&self) -> Arrangement {
        Arrangement::Planes(Limits { bytes: self.binding_limit, rows: self.row_limit() })
    }

    /// A step has a workgroup for each row, or for each eight heads of a row.
    fn most_rows(&self, heads: usize) -> usize {
        self.device.limits().max_compute_workgroups_per_dimension as usize / heads.div_ceil(8)
    }

    fn fits(&self, bytes: u64, what: &str, remedy: &str) -> Result<()> {
        Gpu::fits(self, bytes, what, remedy)
    }

    fn check(&self) -> Result<()> {
        Gpu::check(self)
    }

    fn allocate(&self, bytes: u64, what: &str) -> Result<DeviceWords> {
        DeviceWords::empty(self, bytes, what)
    }

    fn write(&self, words: &DeviceWords, offset: u64, bytes: &[u8]) {
        words.write(self, offset, bytes);
    }

    fn submit(&self) {
        self.queue.submit([]);
    }

    fn runner(
        &self,
        program: &Program<'_, Parameter<DeviceWords>>,
        capacity: Capacity,
        numerics: Numerics,
    ) -> Result<Plan> {
        if numerics.precision == Precision::Fast && self.tuning == Tuning::Cpu {
            let message = "precision \"fast\" is not for adapters that compute in software; leave it out, or load with backend: \"cpu\"";
            return Err(Error::new(ErrorCode::InvalidConfig, message));
        }
        Plan::new(self, program, capacity, numerics)
    }
}

/// The CPU's kernels, which a load and its runner both write to.
#[derive(Clone)]
pub struct Cpu(SharedKernels);

impl Cpu {
    /// These kernels.
    pub fn new(kernels: impl Kernels + 'static) -> Self {
        Self(Rc::new(RefCell::new(kernels)))
    }
}

impl Backend for Cpu {
    /// An offset into the kernels' memory.
    type Words = u32;
    type Runner = CpuRunner;

    fn name(&self) -> &str {
        "CPU"
    }

    fn arrangement(&self) -> Arrangement {
        Arrangement::Panels
    }

    fn most_rows(&self, _heads: usize) -> usize {
        usize::MAX
    }

    /// There is one memory for all, and who takes it finds its end.
    fn fits(&self, _bytes: u64, _what: &str, _remedy: &str) -> Result<()> {
        Ok(())
    }

    fn check(&self) -> Result<()> {
        Ok(())
    }

    fn allocate(&self, bytes: u64, what: &str) -> Result<u32> {
        reserve(&mut *self.0.borrow_mut(), bytes, what)
    }

    fn write(&self, words: &u32, offset: u64, bytes: &[u8]) {
        self.0.borrow_mut().write(words + offset as u32, bytes);
    }

    fn submit(&self) {}

    fn runner(
        &self,
        program: &Program<'_, Parameter<u32>>,
        capacity: Capacity,
        numerics: Numerics,
    ) -> Result<CpuRunner> {
        CpuRunner::new(&self.0, program, capacity, numerics)
    }
}
