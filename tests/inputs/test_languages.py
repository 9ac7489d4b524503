"""Languages of plain sentences."""

from layerscope.inputs.languages import detect_languages


def test_languages_of_sentences():
    found = detect_languages(
        [
            "The committee will meet again on Thursday to discuss the budget.",
            "Der Ausschuss trifft sich am Donnerstag wieder, um den Haushalt zu beraten.",
            "Le comité se réunira de nouveau jeudi pour discuter du budget.",
            "委員会は木曜日に再び予算について話し合う。",
        ]
    )
    assert [one.code for one in found] == ["en", "de", "fr", "ja"]
    assert all(0.9 < one.probability <= 1 for one in found)
