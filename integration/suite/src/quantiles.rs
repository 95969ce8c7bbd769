//! Quantiles of a few hundred measurements.

/// Measurements, sorted.
#[derive(Debug, Clone, Default)]
pub struct Quantiles(Vec<i64>);

impl Quantiles {
    /// Takes measurements in any order.
    pub fn of(measured: impl IntoIterator<Item = i64>) -> Self {
        let mut sorted: Vec<i64> = measured.into_iter().collect();
        sorted.sort_unstable();
        Self(sorted)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }

    /// The smallest measurement that at least `percent` of all do not exceed (the nearest-rank method: nothing is
    /// interpolated); none when there are none.
    pub fn percentile(&self, percent: usize) -> Option<i64> {
        let rank = (self.0.len() * percent).div_ceil(100).max(1);
        self.0.get(rank - 1).copied()
    }

    /// The largest.
    pub fn max(&self) -> Option<i64> {
        self.0.last().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_measurements() {
        let all = Quantiles::of((1..=200).rev());
        assert_eq!((all.percentile(50), all.percentile(99), all.max()), (Some(100), Some(198), Some(200)));
        let one = Quantiles::of([7]);
        assert_eq!((one.percentile(50), one.percentile(99), one.max()), (Some(7), Some(7), Some(7)));
        assert_eq!(Quantiles::default().percentile(50), None);
        assert_eq!(Quantiles::of([-3, 5]).percentile(50), Some(-3));
    }
}
