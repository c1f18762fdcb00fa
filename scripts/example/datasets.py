"""Real public data sets, as files with a catalog beside them: what `intake_server` serves in the example.

They come from the package vega_datasets, which ships them: daily weather in Seattle, the temperature of two
cities by the hour, monthly prices of five stocks, and the airports of the United States.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
from vega_datasets import data

CATALOG = """\
metadata:
  version: 1
sources:
  weather:
    description: Daily weather in Seattle, 2012 to 2015, one CSV file a year
    driver: csv
    args:
      urlpath: '{{ CATALOG_DIR }}/weather_*.csv'
      csv_kwargs: {parse_dates: [date]}
  weather_of:
    description: Daily weather in Seattle in one year
    driver: csv
    parameters:
      year: {description: which year, type: int, default: 2015, min: 2012, max: 2015}
    args:
      urlpath: '{{ CATALOG_DIR }}/weather_{{ year }}.csv'
      csv_kwargs: {parse_dates: [date]}
  temperatures:
    description: Temperature of Seattle and San Francisco by the hour, 2010
    driver: parquet
    args:
      urlpath: '{{ CATALOG_DIR }}/temperatures.parquet'
  stocks:
    description: Monthly prices of five stocks, 2000 to 2010
    driver: parquet
    args:
      urlpath: '{{ CATALOG_DIR }}/stocks.parquet'
  airports:
    description: Airports of the United States and where they are
    driver: parquet
    args:
      urlpath: '{{ CATALOG_DIR }}/airports.parquet'
"""


def write_datasets(folder: Path) -> Path:
    """Write the data files and then their catalog, unless that has been done before.

    Args:
        folder: Where the files go; it is created.

    Returns:
        The path of the catalog.
    """
    catalog = folder / "catalog.yml"
    if catalog.exists() and catalog.read_text(encoding="utf-8") == CATALOG:
        return catalog
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    weather = data.seattle_weather()
    for year, days in weather.groupby(weather["date"].dt.year):
        days.to_csv(unfinished / f"weather_{year}.csv", index=False)
    cities = {"Seattle": data.seattle_temps(), "San Francisco": data.sf_temps()}
    temperatures = pd.concat(frame.assign(city=city) for city, frame in cities.items())
    temperatures.to_parquet(unfinished / "temperatures.parquet", index=False, row_group_size=4096)
    data.stocks().to_parquet(unfinished / "stocks.parquet", index=False)
    data.airports().to_parquet(unfinished / "airports.parquet", index=False)
    (unfinished / "catalog.yml").write_text(CATALOG, encoding="utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    unfinished.rename(folder)
    return catalog
