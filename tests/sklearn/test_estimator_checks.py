from sklearn.utils.estimator_checks import parametrize_with_checks

from xpnet.sklearn import XpnetClassifier


@parametrize_with_checks([XpnetClassifier(), XpnetClassifier(members=3), XpnetClassifier(batch_norm=False)])
def test_estimator_checks(estimator, check):
    check(estimator)
