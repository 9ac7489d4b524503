"""Named sets of tasks."""

from __future__ import annotations

# What MTEB(eng, v1) leaves when the papers' harness drops the tasks that MTEB 1.x filed under "p2p" (the five P2P
# clusterings, AmazonPolarity, Imdb, STS22, SummEval) and the retrieval tasks: 3 + 10 + 6 + 4 + 9.
PAPER32 = (
    "SprintDuplicateQuestions",
    "TwitterSemEval2015",
    "TwitterURLCorpus",
    "AmazonCounterfactualClassification",
    "AmazonReviewsClassification",
    "Banking77Classification",
    "EmotionClassification",
    "MTOPDomainClassification",
    "MTOPIntentClassification",
    "MassiveIntentClassification",
    "MassiveScenarioClassification",
    "ToxicConversationsClassification",
    "TweetSentimentExtractionClassification",
    "ArxivClusteringS2S",
    "BiorxivClusteringS2S",
    "MedrxivClusteringS2S",
    "RedditClustering",
    "StackExchangeClustering",
    "TwentyNewsgroupsClustering",
    "AskUbuntuDupQuestions",
    "MindSmallReranking",
    "SciDocsRR",
    "StackOverflowDupQuestions",
    "BIOSSES",
    "SICK-R",
    "STS12",
    "STS13",
    "STS14",
    "STS15",
    "STS16",
    "STS17",
    "STSBenchmark",
)

OFFLINE = ("WikiTopicClassification", "WikiTopicClustering", "WikiDescriptionRetrieval")

BENCHMARKS = {"paper32": PAPER32, "offline": OFFLINE}
