//! For which kind of adapter the kernels are written out.

use burn_wgpu::wgpu;

use super::recorder::TILES;
use crate::format::quant::QuantType;

/// Parts that the search for the largest logit is split into.
pub(super) const PARTS: usize = 64;

/// Logits that a workgroup changes.
pub(super) const CHANGE_SIZE: usize = 256;

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

    /// Its name in the shaders.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Cpu => "cpu",
            Self::Gpu => "gpu",
        }
    }

    /// The register tiles that products with matrices of these types are written out with, for more and more rows of decoding.
    /// On GPUs they keep within 128 registers (`npm run isa`).
    pub(super) fn tiles(self, types: &[QuantType]) -> [Tile; TILES.len()] {
        // A chunk of these is 64 weights, of the others 32.
        let wide = types.iter().any(|ty| matches!(ty, QuantType::Q4_K | QuantType::Q5_K | QuantType::Q6_K));
        TILES.map(|rows| match self {
            Self::Cpu => Tile { name: "cpu", rows, quads: 16 },
            Self::Gpu => Tile { name: "gpu", rows, quads: if rows < 4 || wide { 1 } else { 2 } },
        })
    }

    /// Whether a prompt's rows are a role of their own.
    pub(super) fn has_prompt_role(self) -> bool {
        self == Self::Gpu
    }

    /// The tile of a prompt's rows, where they are a role of their own. More rows would read the weights less often, but leave too
    /// few workgroups for a large GPU (docs/performance.md).
    pub(super) fn prompt_tile(self) -> Option<Tile> {
        self.has_prompt_role().then_some(Tile { name: "prompt", rows: 16, quads: 32 })
    }

    /// Invocations of each of the [`PARTS`] that the search for the largest logit is split into.
    pub(super) fn part_size(self) -> usize {
        match self {
            Self::Cpu => 1,
            Self::Gpu => 256,
        }
    }

    /// Invocations that sample a row.
    pub(super) fn draw_size(self) -> usize {
        match self {
            Self::Cpu => 16,
            Self::Gpu => 256,
        }
    }
}

/// How a workgroup of a product is shaped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    /// Its name in the shaders' file names.
    pub name: &'static str,
    /// Rows of activations.
    pub rows: usize,
    /// How many times four outputs.
    pub quads: usize,
}

impl Tile {
    /// Whether tiles of rows are the first dimension of a dispatch, so that workgroups with the same weights run together; else
    /// outputs are.
    pub fn rows_first(self) -> bool {
        self.name != "cpu"
    }

    /// Workgroups for sections of so many times four outputs.
    pub fn groups(self, sections: &[usize]) -> usize {
        sections.iter().map(|quads| quads.div_ceil(self.quads)).sum()
    }
}

/// The lanes of a subgroup on a device that has subgroups, where that is one number that kernels can be written out for,
/// else 0.
pub(super) fn fixed_subgroup(info: &wgpu::AdapterInfo) -> u32 {
    let size = info.subgroup_min_size;
    if size == info.subgroup_max_size && [4, 8].contains(&size) { size } else { 0 }
}
