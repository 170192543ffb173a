//! Small pictures side by side, both axes logarithmic, as SVG: readable in light and in dark, and
//! without colours too.

use std::fmt::Write;

pub struct Panel {
    pub title: &'static str,
    pub unit: &'static str,
    /// The label of each line, and its key.
    pub lines: &'static [(&'static str, &'static str)],
}

pub struct Series {
    pub line: Vec<(f64, f64)>,
    /// Single points without a line.
    pub lone: Vec<(f64, f64)>,
}

/// Ink, soft ink, grid, ground, and the lines.
type Colours = [&'static str; 9];
const LIGHT: Colours =
    ["#1f2328", "#59636e", "#e4e8ec", "#ffffff", "#0969da", "#bc4c00", "#1a7f37", "#8250df", "#6e7781"];
const DARK: Colours =
    ["#e6edf3", "#9198a1", "#2a313a", "#0d1117", "#58a6ff", "#f0883e", "#56d364", "#bc8cff", "#b1bac4"];
const SHAPES: &str = "svg{font:12px system-ui,sans-serif}.title{font-weight:600;font-size:13px}.end{text-anchor:end}.mid{text-anchor:middle}\
.line{fill:none;stroke-width:2;stroke-linejoin:round}.ring{fill:none;stroke-width:2}";
const DASHES: [&str; 5] = ["none", "6 3", "2 3", "8 3 2 3", "12 4"];

const COLUMNS: usize = 2;
const WIDTH: f64 = 400.0;
const HEIGHT: f64 = 300.0;
/// The position of the axes in a panel.
const LEFT: f64 = 52.0;
const RIGHT: f64 = WIDTH - 20.0;
const TOP: f64 = 112.0;
const BOTTOM: f64 = HEIGHT - 38.0;

/// The whole picture. Panels whose lines have no points stay empty.
pub fn draw(panels: &[Panel], series: &dyn Fn(&str) -> Series) -> String {
    let rows = panels.len().div_ceil(COLUMNS);
    let (width, height) = (WIDTH * COLUMNS as f64, HEIGHT * rows as f64 + 30.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" width=\"{width}\" height=\"{height}\" role=\"img\" \
         aria-label=\"Cost by number of events\">\n<style>{SHAPES}{}@media(prefers-color-scheme:dark){{{}}}</style>\n<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n",
        colours(LIGHT),
        colours(DARK)
    );
    for (n, panel) in panels.iter().enumerate() {
        let (x, y) = ((n % COLUMNS) as f64 * WIDTH, (n / COLUMNS) as f64 * HEIGHT);
        let lines: Vec<Series> = panel.lines.iter().map(|(_, key)| series(key)).collect();
        writeln!(svg, "<g transform=\"translate({x} {y})\">\n{}</g>", draw_panel(panel, &lines)).expect("text");
    }
    let note = "A ring: the same events, each in a stream of its own. Both axes are logarithmic.";
    text(&mut svg, LEFT, height - 12.0, "soft", note);
    svg.push_str("</svg>\n");
    svg
}

fn colours([ink, soft, grid, ground, lines @ ..]: Colours) -> String {
    let mut css = format!("text{{fill:{ink}}}.soft{{fill:{soft}}}.grid{{stroke:{grid}}}.ground{{fill:{ground}}}");
    for (n, colour) in lines.iter().enumerate() {
        write!(css, ".c{n}{{stroke:{colour}}}.dot{n}{{fill:{colour}}}").expect("text");
    }
    css
}

fn draw_panel(panel: &Panel, lines: &[Series]) -> String {
    let mut svg = String::new();
    text(&mut svg, LEFT, 22.0, "title", &format!("{}, {}", panel.title, panel.unit));
    let points = || lines.iter().flat_map(|series| series.line.iter().chain(&series.lone));
    let (x, y) = (Axis::over(points().map(|p| p.0), LEFT, RIGHT), Axis::over(points().map(|p| p.1), BOTTOM, TOP));
    for decade in y.decades() {
        let at = y.at(decade);
        writeln!(svg, "<path class=\"grid\" d=\"M{LEFT} {at:.1}H{RIGHT}\"/>").expect("text");
        text(&mut svg, LEFT - 6.0, at + 4.0, "soft end", &short(decade));
    }
    for decade in x.decades() {
        let at = x.at(decade);
        writeln!(svg, "<path class=\"grid\" d=\"M{at:.1} {TOP}V{BOTTOM}\"/>").expect("text");
        text(&mut svg, at, BOTTOM + 16.0, "soft mid", &short(decade));
    }
    text(&mut svg, (LEFT + RIGHT) / 2.0, BOTTOM + 31.0, "soft mid", "events in the store");
    for (n, (series, (name, _))) in lines.iter().zip(panel.lines).enumerate() {
        let legend = 39.0 + 15.0 * n as f64;
        let style = format!("class=\"line c{n}\" stroke-dasharray=\"{}\"", DASHES[n]);
        let (y_legend, end) = (legend - 4.0, LEFT + 26.0);
        writeln!(svg, "<polyline {style} points=\"{LEFT} {y_legend} {end} {y_legend}\"/>").expect("text");
        text(&mut svg, LEFT + 33.0, legend, "soft", name);
        let place = |&(events, value): &(f64, f64)| (x.at(events), y.at(value));
        let path: Vec<String> = series.line.iter().map(place).map(|(x, y)| format!("{x:.1} {y:.1}")).collect();
        writeln!(svg, "<polyline {style} points=\"{}\"/>", path.join(" ")).expect("text");
        for (x, y) in series.line.iter().map(place) {
            writeln!(svg, "<circle class=\"dot{n}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\"/>").expect("text");
        }
        for (x, y) in series.lone.iter().map(place) {
            writeln!(svg, "<circle class=\"ring c{n}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"6\"/>").expect("text");
        }
    }
    svg
}

fn text(svg: &mut String, x: f64, y: f64, class: &str, text: &str) {
    writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" class=\"{class}\">{text}</text>").expect("text");
}

/// Whole decades, and their position on the page.
struct Axis {
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    /// All values, and at least two decades, so that a line that is nearly flat looks so.
    fn over(values: impl Iterator<Item = f64>, from: f64, to: f64) -> Self {
        let logs: Vec<f64> = values.filter(|value| *value > 0.0).map(f64::log10).collect();
        let low = logs.iter().copied().fold(f64::INFINITY, f64::min).floor();
        let low = if low.is_finite() { low } else { 0.0 };
        let high = logs.iter().copied().fold(low, f64::max).ceil().max(low + 2.0);
        Axis { low, high, from, to }
    }

    /// A value of 0 is at the lower end.
    fn at(&self, value: f64) -> f64 {
        let share = (value.log10().max(self.low) - self.low) / (self.high - self.low);
        self.from + share * (self.to - self.from)
    }

    fn decades(&self) -> impl Iterator<Item = f64> + use<> {
        (self.low as i32..=self.high as i32).map(|power| 10f64.powi(power))
    }
}

/// Formats a power of ten for people.
pub fn short(value: f64) -> String {
    match value {
        _ if value >= 1e6 => format!("{} M", value / 1e6),
        _ if value >= 1e4 => format!("{} k", value / 1e3),
        _ if value >= 1.0 => format!("{value}"),
        _ => format!("{:.*}", (-value.log10()).ceil() as usize, value),
    }
}
