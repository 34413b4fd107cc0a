//! Pictures of a run.

use std::{fs, path::Path};

use plotters::prelude::*;

use crate::{
    figure::{Bar, Figures, number},
    run::Curve,
};

/// Pixels.
const SIZE: (u32, u32) = (760, 380);
const OURS: RGBColor = RGBColor(31, 119, 180);
const HELD_TO: RGBColor = RGBColor(200, 60, 50);

/// Writes `<name>.svg` for each curve, and `bars.svg`.
///
/// # Errors
/// If a file cannot be written.
pub fn all(folder: &Path, figures: &Figures, curves: &[Curve]) -> anyhow::Result<()> {
    fs::create_dir_all(folder)?;
    for curve in curves {
        plot(&folder.join(format!("{}.svg", curve.name)), curve)
            .map_err(|error| anyhow::anyhow!("{error}"))?;
    }
    bars(&folder.join("bars.svg"), figures).map_err(|error| anyhow::anyhow!("{error}"))
}

fn plot(file: &Path, curve: &Curve) -> Result<(), Box<dyn std::error::Error>> {
    let area = SVGBackend::new(file, SIZE).into_drawing_area();
    area.fill(&WHITE)?;
    let most = |axis: fn(&(f64, f64)) -> f64| curve.points.iter().map(axis).fold(1.0, f64::max);
    let least = curve.points.iter().map(|point| point.0).fold(f64::INFINITY, f64::min).max(1.0);
    let mut chart =
        ChartBuilder::on(&area).margin(16).x_label_area_size(44).y_label_area_size(64).build_cartesian_2d(
            (least..most(|point| point.0) * 1.1).log_scale(),
            0.0..most(|point| point.1) * 1.3,
        )?;
    chart
        .configure_mesh()
        .x_desc(curve.of)
        .y_desc(curve.unit)
        .x_label_formatter(&|value| number(*value))
        .y_label_formatter(&|value| number(*value))
        .draw()?;
    chart.draw_series(LineSeries::new(curve.points.iter().copied(), OURS.stroke_width(2)))?;
    let dots = curve.points.iter().map(|point| {
        EmptyElement::at(*point)
            + Circle::new((0, 0), 4, OURS.filled())
            + Text::new(number(point.1), (-8, -20), ("sans-serif", 13))
    });
    chart.draw_series(dots)?;
    area.present()?;
    Ok(())
}

/// Each figure as a share of its bar; how far it is on the good side of it.
fn bars(file: &Path, figures: &Figures) -> Result<(), Box<dyn std::error::Error>> {
    let shares: Vec<(String, f64)> = figures
        .all()
        .iter()
        .filter_map(|figure| match figure.bar {
            Bar::AtMost(most) if most > 0.0 => Some((figure, figure.value / most)),
            Bar::AtLeast(least) if figure.value > 0.0 => Some((figure, least / figure.value)),
            _ => None,
        })
        .filter(|(_, share)| share.is_finite())
        .map(|(figure, share)| (format!("{}: {}", figure.part, figure.what), share.clamp(0.0, 2.0)))
        .collect();
    let height = 60 + 26 * u32::try_from(shares.len())?;
    let area = SVGBackend::new(file, (900, height)).into_drawing_area();
    area.fill(&WHITE)?;
    let (left, width, top) = (470, 380.0, 34);
    area.draw(&Text::new(
        "share of what the bar permits; left of the line passes",
        (left, 10),
        ("sans-serif", 13),
    ))?;
    for (place, (name, share)) in shares.iter().enumerate() {
        let y = top + 26 * i32::try_from(place)?;
        let colour = if *share <= 1.0 { OURS } else { HELD_TO };
        let end = left + (share / 2.0 * width) as i32;
        area.draw(&Text::new(name.as_str(), (8, y + 3), ("sans-serif", 13)))?;
        area.draw(&Rectangle::new([(left, y), (end.max(left + 1), y + 16)], colour.filled()))?;
        area.draw(&Text::new(format!("{:.0} %", share * 100.0), (end + 6, y + 3), ("sans-serif", 12)))?;
    }
    let line = left + (width / 2.0) as i32;
    area.draw(&PathElement::new(
        [(line, top - 6), (line, i32::try_from(height)? - 14)],
        HELD_TO.stroke_width(2),
    ))?;
    area.present()?;
    Ok(())
}
