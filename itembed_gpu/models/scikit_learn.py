"""What scikit-learn asks of estimators, none of which needs it to be installed.

Importing it takes a second. So it is imported where it asks itself, or was imported already; its
own base classes would be imported with this package.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any, Self, TypeVar

import numpy as np
import numpy.typing as npt

from ..checks import Float32Array, show
from ..errors import InputError, MissingExtraError

E = TypeVar("E", bound="Interface")

# Methods whose arguments may be metadata, and the arguments that are none.
_METHODS = ("fit", "partial_fit", "predict", "score", "transform")
_DATA = {"self", "itemsets", "features", "labels", "y"}

_CONTAINERS = ("default", "pandas", "polars")


class Interface:
    """Of every estimator."""

    _metadata_request: Any

    def __sklearn_is_fitted__(self) -> bool:
        raise NotImplementedError

    def __sklearn_tags__(self) -> Any:
        from sklearn.utils import InputTags, Tags, TargetTags, TransformerTags

        return Tags(
            # Also where it classifies: scikit-learn's classifiers know no bags of labels.
            estimator_type=None,
            target_tags=TargetTags(required=False),
            transformer_tags=TransformerTags(preserves_dtype=[]),
            input_tags=InputTags(two_d_array=False, sparse=True, string=True),
            non_deterministic=True,
        )

    def get_metadata_routing(self) -> Any:
        """Tell what of the metadata this estimator requests.

        Returns
        -------
        sklearn.utils.metadata_routing.MetadataRequest
            For each method, what it takes beside itemsets.
        """
        from sklearn.utils.metadata_routing import MetadataRequest, get_routing_for_object

        if hasattr(self, "_metadata_request"):
            return get_routing_for_object(self._metadata_request)
        # Known by a name, as to copy the request is not to copy the estimator.
        request = MetadataRequest(owner=type(self).__name__)
        for method in _METHODS:
            for name in _metadata_of(type(self), method):
                getattr(request, method).add_request(param=name, alias=None)
        return request

    def _requests(self, method: str, name: str) -> bool:
        """Tell whether an argument of a method is requested as metadata."""
        routing = getattr(self, "_metadata_request", None)
        return routing is not None and getattr(routing, method).requests.get(name) not in (
            None,
            False,
        )

    def _repr_html_(self) -> str | None:
        """Return the diagram that scikit-learn draws in notebooks, where it is in use."""
        if "sklearn" not in sys.modules:
            return None
        from sklearn import get_config
        from sklearn.utils import estimator_html_repr

        if get_config()["display"] != "diagram":
            return None
        diagram: str = estimator_html_repr(self)
        return diagram


def _metadata_of(kind: type, method: str) -> list[str]:
    """Return the arguments of a method that are metadata."""
    found = getattr(kind, method, None)
    return (
        [] if found is None else [x for x in inspect.signature(found).parameters if x not in _DATA]
    )


def setter_of_requests(method: str) -> Callable[..., Any]:
    """Return the ``set_{method}_request`` of an estimator."""

    def set_request(self: E, **requests: bool | str | None) -> E:
        try:
            from sklearn import get_config
            from sklearn.utils.metadata_routing import UNCHANGED
        except ImportError as error:
            raise MissingExtraError(
                "metadata routing is scikit-learn's: pip install scikit-learn"
            ) from error
        if not get_config()["enable_metadata_routing"]:
            raise InputError(
                f"set_{method}_request works with metadata routing alone, which is not enabled; "
                "call sklearn.set_config(enable_metadata_routing=True)"
            )
        known = _metadata_of(type(self), method)
        routing = self.get_metadata_routing()
        for name, value in requests.items():
            if name not in known:
                raise InputError(
                    f"{name} is no argument of {method} that can be metadata; "
                    f"pass some of {', '.join(known)}"
                )
            if value != UNCHANGED:
                getattr(routing, method).add_request(param=name, alias=value)
        self._metadata_request = routing
        return self

    set_request.__name__ = f"set_{method}_request"
    set_request.__qualname__ = f"Estimator.set_{method}_request"
    set_request.__doc__ = f"""Say which metadata scikit-learn is to pass on to `{method}`.

        Parameters
        ----------
        **requests : bool, str or None
            For an argument of `{method}`, such as ``weights=True``: True requests it, False does
            not, None makes it an error to be given it, and a string is the name it is given under.

        Returns
        -------
        Estimator
            This object.

        Raises
        ------
        InputError
            Metadata routing is not enabled in scikit-learn, or there is no such argument.
        MissingExtraError
            scikit-learn is not installed.
        """
    return set_request


class TransformerInterface(Interface):
    """Of an estimator whose `transform` returns a vector for each row."""

    _sklearn_auto_wrap_output_keys = frozenset({"transform"})

    _sklearn_output_config: dict[str, str]

    def _num_output(self) -> int:
        """Return the length of a vector; raise an `InputError` if nothing has been learned."""
        raise NotImplementedError

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[np.object_]:
        """Return names of the columns that `transform` returns: "item2vec0", "item2vec1", ...

        Parameters
        ----------
        input_features : object, optional
            Ignored; scikit-learn passes it.

        Returns
        -------
        object, num_column
            Names, as str.

        Raises
        ------
        InputError
            The model is not fitted.
        """
        prefix = type(self).__name__.lower()
        return np.array([f"{prefix}{column}" for column in range(self._num_output())], dtype=object)

    def set_output(self, *, transform: str | None = None) -> Self:
        """Say what `transform` and `fit_transform` return.

        Parameters
        ----------
        transform : {"default", "pandas", "polars"}, optional
            "default" is an array; the others are data frames, with the columns of
            `get_feature_names_out`, and the index of the itemsets where pandas has one. None
            leaves it as it is: as scikit-learn's `set_config(transform_output=...)` says, at first.
            A folder that is saved does not keep it.

        Returns
        -------
        Estimator
            This object.

        Raises
        ------
        InputError
            `transform` is something else.
        """
        if transform is not None:
            if transform not in _CONTAINERS:
                raise InputError(
                    f"transform is {show(transform)}; pass one of {', '.join(_CONTAINERS)}"
                )
            self._sklearn_output_config = {"transform": transform}
        return self

    def _in_container(self, vectors: Float32Array, itemsets: Any) -> Any:
        """Return vectors as they are, or in the frame that was asked for."""
        container = getattr(self, "_sklearn_output_config", {}).get("transform")
        if container is None and "sklearn" in sys.modules:
            from sklearn import get_config

            container = get_config()["transform_output"]
        if container not in _CONTAINERS[1:]:
            return vectors
        names = self.get_feature_names_out().tolist()
        try:
            if container == "polars":
                import polars

                return polars.DataFrame(vectors, schema=names, orient="row")
            import pandas
        except ImportError as error:
            raise MissingExtraError(
                f"the output of transform is to be of {container}: pip install {container}"
            ) from error
        has_index = isinstance(itemsets, pandas.DataFrame | pandas.Series)
        index = itemsets.index if has_index and len(itemsets) == len(vectors) else None
        return pandas.DataFrame(vectors, columns=names, index=index)
