"""The 569 tumours of scikit-learn's table, 30 features each: benign or malignant."""

from demos.image.data.common.tables import table

DATA_SET = table("breast_cancer")
