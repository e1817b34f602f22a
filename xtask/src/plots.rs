//! The plots of the simulation (`crates/engine/src/upstream/simulation`), as SVG: what clients and hosts see of a bad day.

use std::fmt::Write;

/// A line of a plot.
pub struct Series {
    /// What it is called.
    pub name: &'static str,
    /// Its colour, as SVG writes it.
    pub colour: &'static str,
    /// A value for each second.
    pub values: Vec<f64>,
}

/// A span of time with a name.
pub type Phase = (&'static str, usize, usize);

/// What happens in the simulation, in seconds; the test there says the same.
pub const PHASES: [Phase; 4] = [
    ("5 % answer with 503", 10, 40),
    ("every host restarts", 40, 65),
    ("a quarter is silent", 80, 100),
    ("one host is slow", 115, 135),
];

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 240.0;
const LEFT: f64 = 64.0;
const TOP: f64 = 40.0;

/// A plot of `series` over time; `log`: by orders of magnitude, from 1 on.
pub fn svg(title: &str, series: &[Series], phases: &[Phase], log: bool) -> String {
    let seconds = series.iter().map(|s| s.values.len()).max().unwrap_or(0).max(2);
    let scale = |v: f64| if log { v.max(1.0).log10() } else { v };
    let highest = series.iter().flat_map(|s| &s.values).fold(1.0_f64, |a, b| a.max(*b));
    let (ticks, top) = ticks(highest, log);
    let x = |second: f64| LEFT + second * WIDTH / (seconds - 1) as f64;
    let y = |v: f64| TOP + HEIGHT - scale(v) * HEIGHT / scale(top);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n<text x=\"{LEFT}\" y=\"16\" font-size=\"14\">{title}</text>\n",
        WIDTH + LEFT + 16.0,
        HEIGHT + TOP + 48.0,
    );
    for (name, from, to) in phases {
        let (a, b) = (x(*from as f64), x((*to).min(seconds - 1) as f64));
        let _ = writeln!(
            out,
            "<rect x=\"{a:.1}\" y=\"{TOP}\" width=\"{:.1}\" height=\"{HEIGHT}\" fill=\"#eee\"/>\
             <text x=\"{:.1}\" y=\"{}\" fill=\"#666\">{name}</text>",
            b - a,
            a + 4.0,
            TOP + 14.0,
        );
    }
    for t in ticks {
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{1:.1}\" y2=\"{1:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{2:.1}\" y=\"{3:.1}\" text-anchor=\"end\">{t}</text>",
            LEFT + WIDTH,
            y(t),
            LEFT - 6.0,
            y(t) + 4.0,
        );
    }
    for second in (0..seconds).step_by(10) {
        let _ = writeln!(
            out,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{second} s</text>",
            x(second as f64),
            TOP + HEIGHT + 16.0
        );
    }
    let mut at = LEFT;
    for s in series {
        let points = s.values.iter().enumerate().fold(String::new(), |mut all, (i, v)| {
            let _ = write!(all, "{:.1},{:.1} ", x(i as f64), y(*v));
            all
        });
        let _ = writeln!(
            out,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"1.5\"/>\
             <text x=\"{at:.1}\" y=\"{:.1}\" fill=\"{}\">— {}</text>",
            points.trim_end(),
            s.colour,
            TOP + HEIGHT + 38.0,
            s.colour,
            s.name,
        );
        at += 40.0 + 8.0 * s.name.len() as f64;
    }
    out + "</svg>\n"
}

/// Round numbers up to the highest value, and the top of the plot.
fn ticks(highest: f64, log: bool) -> (Vec<f64>, f64) {
    if log {
        let most = highest.max(10.0).log10().ceil() as i32;
        return ((0..=most).map(|e| 10_f64.powi(e)).collect(), 10_f64.powi(most));
    }
    let unit = 10_f64.powf(highest.log10().floor());
    let step =
        [0.2, 0.5, 1.0, 2.0].map(|s| s * unit).into_iter().find(|s| highest / s <= 6.0).unwrap_or(unit);
    let n = (highest / step).ceil() as u32;
    ((0..=n).map(|i| f64::from(i) * step).collect(), f64::from(n) * step)
}

/// The columns of a table of numbers, by their names in its first line.
///
/// # Errors
/// A column is not there, or holds something that is no number.
pub fn column(csv: &str, name: &str) -> Result<Vec<f64>, String> {
    let mut lines = csv.lines();
    let place = lines.next().and_then(|l| l.split(',').position(|n| n == name));
    let place = place.ok_or_else(|| format!("no column {name}"))?;
    let value = |l: &str| l.split(',').nth(place).and_then(|v| v.parse().ok());
    lines.map(|l| value(l).ok_or_else(|| format!("{l}: no number for {name}"))).collect()
}

/// The plots of what a simulation saw, by the names of their files.
///
/// # Errors
/// As of `column`.
pub fn all(csv: &str) -> Result<Vec<(&'static str, String)>, String> {
    let series = |name, colour, of: &str| column(csv, of).map(|values| Series { name, colour, values });
    let requests = [
        series("answered well", "#2a7", "good")?,
        series("failed", "#c22", "bad")?,
        series("sent again", "#27c", "retries")?,
    ];
    let times = [series("median", "#2a7", "p50_ms")?, series("99th percentile", "#c62", "p99_ms")?];
    let hosts = [
        series("get requests", "#2a7", "healthy")?,
        series("ejected", "#c62", "ejected")?,
        series("fail their checks", "#c22", "failed_checks")?,
    ];
    Ok(vec![
        ("simulation-requests.svg", svg("Requests per second", &requests, &PHASES, false)),
        ("simulation-times.svg", svg("How long they took, in milliseconds", &times, &PHASES, true)),
        ("simulation-hosts.svg", svg("Hosts", &hosts, &PHASES, false)),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_have_names() {
        let csv = "a,b\n1,2\n3,4\n";
        assert_eq!(column(csv, "b"), Ok(vec![2.0, 4.0]));
        assert!(column(csv, "c").is_err());
        assert!(column("a\nx\n", "a").is_err());
    }

    #[test]
    fn scales_are_round() {
        assert_eq!(ticks(310.0, false), (vec![0.0, 100.0, 200.0, 300.0, 400.0], 400.0));
        assert_eq!(ticks(1000.0, false).1, 1000.0);
        assert_eq!(ticks(3030.0, true), (vec![1.0, 10.0, 100.0, 1000.0, 10_000.0], 10_000.0));
    }

    #[test]
    fn a_plot_has_a_line_for_each_series() {
        let s = |name| Series { name, colour: "#000", values: vec![1.0, 2.0, 3.0] };
        let svg = svg("t", &[s("one"), s("two")], &[("phase", 1, 2)], false);
        assert_eq!(svg.matches("<polyline").count(), 2);
        assert!(svg.contains(">phase<") && svg.contains("— two<") && svg.ends_with("</svg>\n"));
        // From the left below to the right above.
        assert!(svg.contains("points=\"64.0,200.0 544.0,120.0 1024.0,40.0\""), "{svg}");
    }
}
