//! What a series of rounds says.

/// Student's t for a two-sided interval of 95%, by degrees of freedom from 1 on (any table of the distribution).
const T95: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
/// The same for more.
const T95_MANY: f64 = 2.0;

/// The middle of what was measured; NaN when nothing was.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match (sorted.len(), sorted.len() / 2) {
        (0, _) => f64::NAN,
        (count, middle) if count % 2 == 1 => sorted[middle],
        (_, middle) => f64::midpoint(sorted[middle - 1], sorted[middle]),
    }
}

/// How one thing compares with another, from rounds in which both were measured.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Ratio {
    /// The geometric mean of the rounds' ratios.
    pub mean: f64,
    /// The ends of its interval of 95%.
    pub interval: (f64, f64),
}

/// Where an interval lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Above 1.
    Ahead,
    /// Around 1.
    Level,
    /// Below 1.
    Behind,
}

impl Ratio {
    /// `ours` over `theirs`, round by round. None with fewer than two rounds, or when something was not measured.
    pub fn paired(ours: &[f64], theirs: &[f64]) -> Option<Self> {
        let logs: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| (ours / theirs).ln()).collect();
        if logs.len() < 2 || logs.iter().any(|log| !log.is_finite()) {
            return None;
        }
        #[expect(clippy::cast_precision_loss, reason = "a count of rounds")]
        let count = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / count;
        let variance = logs.iter().map(|log| (log - mean).powi(2)).sum::<f64>() / (count - 1.0);
        let reach = T95.get(logs.len() - 2).unwrap_or(&T95_MANY) * (variance / count).sqrt();
        Some(Self { mean: mean.exp(), interval: ((mean - reach).exp(), (mean + reach).exp()) })
    }

    /// Where the interval lies.
    pub fn standing(self) -> Standing {
        match self.interval {
            (low, _) if low > 1.0 => Standing::Ahead,
            (_, high) if high < 1.0 => Standing::Behind,
            _ => Standing::Level,
        }
    }
}

impl std::fmt::Display for Ratio {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let standing = match self.standing() {
            Standing::Ahead => "ahead",
            Standing::Level => "level",
            Standing::Behind => "behind",
        };
        write!(f, "{:.3} [{:.3}, {:.3}] {standing}", self.mean, self.interval.0, self.interval.1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
        assert!(median(&[]).is_nan());
    }

    #[test]
    fn a_ratio_is_of_pairs() {
        // What a busy machine does to a whole round cancels out.
        let ratio = Ratio::paired(&[110.0, 55.0, 220.0], &[100.0, 50.0, 200.0]).unwrap();
        assert!((ratio.mean - 1.1).abs() < 1e-9, "{ratio}");
        assert_eq!(ratio.standing(), Standing::Ahead);
        let noise = Ratio::paired(&[110.0, 90.0, 100.0], &[100.0, 100.0, 100.0]).unwrap();
        assert_eq!(noise.standing(), Standing::Level);
        let behind = Ratio::paired(&[90.0, 91.0, 89.0], &[100.0, 100.0, 100.0]).unwrap();
        assert_eq!(behind.standing(), Standing::Behind);
    }

    #[test]
    fn what_was_not_measured_has_no_ratio() {
        assert_eq!(Ratio::paired(&[1.0], &[1.0]), None);
        assert_eq!(Ratio::paired(&[1.0, f64::NAN], &[1.0, 1.0]), None);
    }
}
