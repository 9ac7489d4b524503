from layerscope.wording import counted


def test_a_count_and_its_word_agree():
    assert counted(1, "task") == "1 task"
    assert counted(0, "task") == "0 tasks"
    assert counted(1204, "query", "queries") == "1,204 queries"
