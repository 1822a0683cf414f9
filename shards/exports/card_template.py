"""The layout of a card: the front matter that data set hubs read, and the headings of Datasheets for Datasets."""

from __future__ import annotations

CARD = """\
---
pretty_name: {quoted_name}
license: {quoted_license}
tags: [synthetic, face-recognition, webdataset]
configs:
- config_name: default
  data_files:
  - split: train
    path: "*.tar"
---

# {name} {version}

{origin}{summary}

| | |
|---|---|
| images | {images:,}, all synthetic; each says so in its file (IPTC digital source type) |
| identities | {identities:,} |
| image size | {size} x {size} px, RGB, JPEG |
| tars | {tars:,}, {gigabytes:.2f} GB |
| seed | {seed} |
| date | {date} |

![Some of the images: a row per synthetic person](samples.jpg)

The headings below are those of Datasheets for Datasets (Gebru et al., Communications of the ACM 64(12), 2021).

## Motivation

{uses}

Made by {creator}.

## Composition

Each tar is a WebDataset shard: `<key>.jpg` beside `<key>.json`, whose `identity` is the label. No image shows a real
person, as far as the audit can tell.

### What the nets have learned from

{lineage}

### Whom it shows

{demographics}

### Known limits

{limits}

## Collection process

No image was collected. All were generated, with these settings:

{config}

### Audit

{audit}

## Preprocessing, cleaning and labeling

Identity and requested values of an image are known from how it was made; nobody labeled anything. Images and
people that the audit found too close to real ones were removed, as stated above.

## Uses

Meant for: {uses}

Not allowed: {uses_not_allowed}

### Metrics

{metrics}

## Distribution

License: {license}

Check what you downloaded with `python verify.py`; it needs the Python standard library only. {signature}

## Maintenance

Contact: {contact}

How a person can ask to be left out, and what then happens: {leaving_out}

Retention of the real faces: {retention}

{predecessor}

## Citation

{citation}
"""
