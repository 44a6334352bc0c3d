//! For which kind of adapter the kernels are written out.

use burn_wgpu::wgpu;

/// How kernels sum. Within a tuning a row's results do not depend on the number of rows; between tunings they differ in
/// rounding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tuning {
    /// Software adapters (SwiftShader, lavapipe, WARP): one invocation sums alone in registers, since there a barrier
    /// costs as much as many multiplications.
    Cpu,
    /// GPUs: invocations share a sum, so that neighbours read neighbouring words, and meet at a barrier.
    Gpu,
}

impl Tuning {
    /// The tuning for an adapter. A browser says of a software adapter that it is a fallback adapter, which wgpu reports
    /// as a CPU; names are looked at for browsers that do not.
    pub fn of(info: &wgpu::AdapterInfo) -> Self {
        let name = format!("{} {}", info.name, info.driver).to_lowercase();
        let software = ["swiftshader", "llvmpipe", "lavapipe", "basic render", "software"];
        if info.device_type == wgpu::DeviceType::Cpu || software.iter().any(|s| name.contains(s)) {
            Self::Cpu
        } else {
            Self::Gpu
        }
    }

    /// Its name in the shaders' file names.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }

    /// Invocations that share one sum over `inner` weights: enough groups of 32 for each, in a power of two.
    pub(super) fn team(self, inner: usize) -> usize {
        match self {
            Self::Cpu => 1,
            Self::Gpu => 1 << (inner / 64).clamp(1, 32).ilog2(),
        }
    }

    /// How many times four outputs a workgroup of the matrix kernels makes.
    pub(super) fn quads_per_workgroup(self, inner: usize) -> usize {
        match self {
            Self::Cpu => 16,
            Self::Gpu => 64 / self.team(inner),
        }
    }

    /// Parts that the search for the largest logit is split into.
    pub(super) fn parts(self) -> usize {
        match self {
            Self::Cpu => 64,
            Self::Gpu => 1024,
        }
    }
}

/// The lanes of a subgroup on a device that has subgroups, where that is one number that kernels can be written out for,
/// else 0.
pub(super) fn fixed_subgroup(info: &wgpu::AdapterInfo) -> u32 {
    let size = info.subgroup_min_size;
    if size == info.subgroup_max_size && [4, 8].contains(&size) { size } else { 0 }
}
