//! What a plan tells for measuring: its kernels, their WGSL, their times.

use burn_wgpu::wgpu::{self, BufferUsages as Usage};

use super::{Counts, Plan};
use crate::Result;
use crate::gpu::readback::read;
use crate::gpu::timing::{MAX_SPANS, Timer};
use crate::program::{Batch, Row};

/// A kernel of a plan.
#[derive(Clone, Debug)]
pub struct KernelInfo {
    /// Its shader, and what tells it from others of that shader.
    pub name: String,
    /// Dispatches of it in a step.
    pub dispatches: usize,
    /// Weights that a dispatch multiplies with.
    pub weights: u64,
    /// Their bytes.
    pub bytes: u64,
}

/// A pipeline as its driver gets it.
#[derive(Clone, Debug)]
pub struct Source {
    /// Rows of its register tile.
    pub tile: usize,
    /// A letter for each binding of group 0: `u` uniform, `r` read-only storage, `w` storage.
    pub kinds: String,
    /// What it is compiled from.
    pub wgsl: String,
}

impl Plan {
    /// Its kernels, in the order in which a step first runs them.
    pub fn kernels(&self) -> Vec<KernelInfo> {
        let info = |(index, compiled): (usize, &super::Compiled)| {
            let (weights, bytes) = compiled.kernel.weights();
            let dispatches = self.dispatches.iter().filter(|dispatch| dispatch.kernel == index).count();
            KernelInfo { name: compiled.kernel.name(), dispatches, weights, bytes }
        };
        self.pipelines.kernels.iter().enumerate().map(info).collect()
    }

    /// The pipelines of a kernel, by its place among [`kernels`](Self::kernels): one for each tile where it works on tiles.
    ///
    /// # Errors
    /// `internal` for a template that does not render.
    pub fn sources(&self, kernel: usize) -> Result<Vec<Source>> {
        let compiled = &self.pipelines.kernels[kernel];
        let sources = compiled.sources(&self.pipelines.templates)?.into_iter();
        Ok(sources.map(|(tile, wgsl)| Source { tile, kinds: compiled.kinds.clone(), wgsl }).collect())
    }

    /// Seconds of each dispatch of a step over `rows`, with its kernel's place among [`kernels`](Self::kernels). Each has a
    /// pass of its own and is timed by the device; where that has no clock, it is submitted and waited for alone, and the time
    /// is the caller's, natively only.
    ///
    /// # Errors
    /// `device_lost`.
    pub async fn kernel_seconds(&mut self, rows: &[Row]) -> Result<Vec<(usize, f64)>> {
        let counts = self.write_rows(&Batch { rows: rows.to_vec(), ..Batch::default() });
        let dispatches: Vec<usize> = (0..self.dispatches.len()).collect();
        let mut seconds = Vec::new();
        for some in dispatches.chunks(MAX_SPANS) {
            seconds.extend(match Timer::new(&self.gpu, some.len()) {
                Some(timer) => self.device_seconds(some, &timer, counts).await?,
                None => self.wall_seconds(some, counts)?,
            });
        }
        Ok(self.dispatches.iter().map(|dispatch| dispatch.kernel).zip(seconds).collect())
    }

    async fn device_seconds(&self, some: &[usize], timer: &Timer, counts: Counts) -> Result<Vec<f64>> {
        let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
        for (span, i) in some.iter().enumerate() {
            let mut pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor {
                label: Some("dispatch"),
                timestamp_writes: Some(timer.writes(span)),
            });
            self.encode(&self.dispatches[*i], &mut pass, counts)?;
        }
        let size = 16 * some.len() as u64;
        let descriptor = wgpu::BufferDescriptor {
            label: Some("dispatch times"),
            size,
            usage: Usage::MAP_READ | Usage::COPY_DST,
            mapped_at_creation: false,
        };
        let readback = self.gpu.device.create_buffer(&descriptor);
        timer.resolve(&mut encoder, &readback);
        self.gpu.queue.submit([encoder.finish()]);
        read(&self.gpu, &readback, size, |view| timer.seconds(view)).await
    }

    fn wall_seconds(&self, some: &[usize], counts: Counts) -> Result<Vec<f64>> {
        let time = |i: &usize| -> Result<f64> {
            let start = web_time::Instant::now();
            let mut encoder = self.gpu.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            self.encode(&self.dispatches[*i], &mut pass, counts)?;
            drop(pass);
            self.gpu.queue.submit([encoder.finish()]);
            let _ = self.gpu.device.poll(wgpu::PollType::wait_indefinitely());
            Ok(start.elapsed().as_secs_f64())
        };
        some.iter().map(time).collect()
    }
}
