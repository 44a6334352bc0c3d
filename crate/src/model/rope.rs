//! Rotary position embedding tables, computed on the CPU in f64: WGSL's `sin` is off by 1.8e-4 on SwiftShader.

use super::config::Rope;

/// `cos, sin` of every pair of every position: shape `[positions, head_dim / 2, 2]`, f32. Pairs after the first
/// `rope.dims / 2` do not turn. `factors`, one for each turning pair, divide its frequency (GGUF's `rope_freqs`).
pub fn table(rope: &Rope, head_dim: usize, positions: usize, factors: Option<&[f32]>) -> Vec<f32> {
    let (pairs, turning) = (head_dim / 2, rope.dims / 2);
    let frequencies: Vec<f64> = (0..turning)
        .map(|i| {
            let factor = factors.map_or(1.0, |f| f64::from(f[i])) * f64::from(rope.factor);
            f64::from(rope.base).powf(-2.0 * i as f64 / rope.dims as f64) / factor
        })
        .collect();
    let magnitude = f64::from(rope.magnitude);
    let mut table = Vec::with_capacity(positions * pairs * 2);
    for position in 0..positions {
        for frequency in &frequencies {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            table.extend([(cos * magnitude) as f32, (sin * magnitude) as f32]);
        }
        for _ in turning..pairs {
            table.extend([1.0, 0.0]);
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_after_the_turning_ones_pass() {
        let rope = Rope { dims: 4, ..Rope::plain(100.0, 8) };
        let table = table(&rope, 8, 2, Some(&[1.0, 2.0]));
        assert_eq!(table[..8], [1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0]);
        assert_eq!(table[8..10], [1f32.cos(), 1f32.sin()]);
        let second = 0.1f64 / 2.0;
        assert_eq!(table[10..12], [second.cos() as f32, second.sin() as f32]);
        assert_eq!(table[12..], [1.0, 0.0, 1.0, 0.0]);
    }
}
