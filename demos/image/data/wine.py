"""The 178 wines of scikit-learn's table, 13 features each, of three growers."""

from demos.image.data.common.tables import table

DATA_SET = table("wine")
