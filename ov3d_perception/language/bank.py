"""Stored text embeddings: a robot answers these words with no text tower in memory."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from ov3d_perception.errors import EncoderError, IdentityError, UnknownWordError, VocabularyError, WriteError
from ov3d_perception.files import replacing
from ov3d_perception.language.words import find_word, normalise_word
from ov3d_perception.paths import shipped
from ov3d_perception.types import EncoderIdentity

FOREIGN_IDENTITY = EncoderIdentity("ViT-B-16-quickgelu", "openai", 512)
_SHOWN = 40


class TextBank:
    """Words and their unit-norm embeddings, with the identity of the encoder that made them.

    origins: of the words that were taught by examples, where those came from (plain data, see :mod:`.teach`).
    """

    def __init__(
        self,
        words: Sequence[str],
        embeddings: Float[np.ndarray, "n d"],
        identity: EncoderIdentity,
        logit_scale: float = 100.0,
        origins: Mapping[str, Any] | None = None,
    ) -> None:
        embeddings = np.asarray(embeddings, dtype=np.float32)
        if embeddings.shape != (len(words), identity.dim):
            raise EncoderError(
                f"A text bank of {len(words)} words for {identity} holds embeddings of shape {embeddings.shape}",
                f"Store the bank again; ({len(words)}, {identity.dim}) is expected",
            )
        norm = np.linalg.norm(embeddings, axis=1, keepdims=True)
        if bad := [word for word, length in zip(words, norm[:, 0], strict=True) if not 0.0 < length < np.inf]:
            raise EncoderError(
                f"A text bank's embeddings of {', '.join(bad[:5])} are zero or not finite", "Store the bank again"
            )
        self.words = tuple(words)
        self.embeddings = embeddings / norm
        self.origins = dict(origins or {})
        self._identity = identity
        self._logit_scale = float(logit_scale)
        self._row = {normalise_word(word): row for row, word in reversed(list(enumerate(words)))}

    @property
    def identity(self) -> EncoderIdentity:
        """The encoder that made the embeddings."""
        return self._identity

    @property
    def logit_scale(self) -> float:
        """That encoder's inverse temperature."""
        return self._logit_scale

    def __contains__(self, word: str) -> bool:
        return find_word(word, self._row) is not None

    def __len__(self) -> int:
        return len(self.words)

    def embed(self, words: Sequence[str]) -> Float32[np.ndarray, "n d"]:
        """Rows of the words; "cars" and "a car" are read as "car" where the bank holds no such word.

        Raises :class:`UnknownWordError` that names the nearest words and what the bank holds.
        """
        found = {word: find_word(word, self._row) for word in words}
        unknown = [word for word, form in found.items() if form is None]
        if unknown:
            near = tuple(dict.fromkeys(near for word in unknown for near in self.nearest(word)))
            close = f"Close to it: {', '.join(near)}. " if near else ""
            raise UnknownWordError(
                f"The text bank of {self._identity} does not hold {', '.join(map(repr, unknown))}",
                f"{close}Use a word it holds ({self._listing()}), or a text tower, or store a bank with the word",
                near,
            )
        return self.embeddings[np.array([self._row[found[word] or ""] for word in words], dtype=np.intp)]

    def nearest(self, word: str, count: int = 3) -> list[str]:
        """The words of the bank that are spelled most alike, after those that share a whole word with it."""
        plain = normalise_word(word)
        parts = {part for part in plain.split() if len(part) > 2}
        sharing = [known for known in self._row if parts & set(known.split())]
        return list(dict.fromkeys([*sharing, *get_close_matches(plain, self._row, n=count)]))[:count]

    def _listing(self) -> str:
        shown = ", ".join(sorted(self._row)[:_SHOWN])
        return shown + (f" and {len(self._row) - _SHOWN} more" if len(self._row) > _SHOWN else "")

    @classmethod
    def merged(cls, banks: Sequence[TextBank]) -> TextBank:
        """All words of several banks of one encoder; of a word that several hold, the mean of its embeddings.

        Embeddings of one word from different prompts are a prompt ensemble, as if the bank had been made with them all.
        Raises :class:`EncoderError` for banks of different encoders, and where there is none.
        """
        if not banks:
            raise EncoderError("There is no bank to merge", "Name at least one")
        first = banks[0]
        if other := next((bank for bank in banks if bank.identity != first.identity), None):
            raise EncoderError(
                f"Embeddings of {first.identity} and of {other.identity} cannot be compared",
                "Merge banks of one encoder",
            )
        found: dict[str, tuple[str, list[np.ndarray]]] = {}
        for bank in banks:
            for word, embedding in zip(bank.words, bank.embeddings, strict=True):
                found.setdefault(normalise_word(word), (word, []))[1].append(embedding)
        means = np.array([np.mean(embeddings, axis=0) for _, embeddings in found.values()])
        origins = {word: bank.origins[word] for bank in banks for word in bank.origins}
        alone = {word: origins[word] for word, several in found.values() if len(several) == 1 and word in origins}
        return cls([word for word, _ in found.values()], means, first.identity, first.logit_scale, alone)

    def with_word(
        self, word: str, embedding: Float[np.ndarray, " d"], origin: Mapping[str, Any], replace: bool = False
    ) -> TextBank:
        """A bank that holds one word more, with its origin. replace: in the place of what ``word`` means now.

        Raises as :meth:`require_new`.
        """
        self.require_new(word, replace)
        known = find_word(word, self._row)
        kept = [row for row, other in enumerate(self.words) if normalise_word(other) != known]
        words = [self.words[row] for row in kept]
        origins = {other: self.origins[other] for other in words if other in self.origins}
        embeddings = np.concatenate([self.embeddings[kept], np.asarray(embedding, np.float32)[None]])
        return TextBank([*words, word], embeddings, self._identity, self._logit_scale, {**origins, word: dict(origin)})

    def require_new(self, word: str, replace: bool = False) -> None:
        """Raise VocabularyError for no word, and, unless ``replace``, for one that the bank holds in any form."""
        if not normalise_word(word):
            raise VocabularyError("The word is empty", "Name what the examples show")
        known = find_word(word, self._row)
        if known is not None and not replace:
            raise VocabularyError(
                f"The bank holds {self.words[self._row[known]]!r} already", "Choose another name, or --replace it"
            )

    def require(self, identity: EncoderIdentity, what: str = "pictures") -> None:
        """Raise IdentityError unless ``what`` is of the encoder that made the embeddings."""
        if not self._identity.compatible(identity):
            raise IdentityError(
                f"The bank's words belong to {self._identity}, the {what} to {identity}",
                "Name the bank of that encoder, or the encoder of this bank: --model, --pretrained",
            )

    def save(self, path: Path) -> None:
        """Write ``.npz`` with keys words, embeddings (float16), logit_scale, identity and origins (JSON).

        Whole or not at all. Raises WriteError, also for a path with another ending: a word that stands for it.
        """
        if path.suffix != ".npz":
            raise WriteError(f"The bank to write, {path}, does not end in .npz", "Name the bank before its words")
        identity = {key: getattr(self._identity, key) for key in ("model", "pretrained", "dim", "sha256")}
        with replacing(path) as stream:
            np.savez_compressed(
                stream,
                words=np.array(self.words),
                embeddings=self.embeddings.astype(np.float16),
                logit_scale=np.float32(self._logit_scale),
                identity=np.array(json.dumps(identity)),
                origins=np.array(json.dumps(self.origins)),
            )

    @classmethod
    def load(
        cls,
        path: Path | str,
        key: str | None = None,
        names: str | None = None,
        identity: EncoderIdentity | None = None,
        logit_scale: float = 100.0,
    ) -> TextBank:
        """Read a bank that :meth:`save` wrote, or one array of a foreign ``.npz``.

        Foreign: ``key`` names the (n, d) array and ``names`` that of its words (default: ``key`` or its part before the
        first "_", plus "_names"); ``identity`` defaults to OpenAI's CLIP ViT-B/16. Raises :class:`EncoderError`.
        """
        path = Path(shipped(str(path)))
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays: dict[str, Any] = {name: archive[name] for name in archive.files}
        except Exception as error:
            raise EncoderError(
                f"The text bank {path} cannot be read ({error})", "Check the path, or store the bank again"
            ) from error
        if key is None:
            return cls._from_own(path, arrays)
        names = names or next((n for n in (f"{key}_names", f"{key.partition('_')[0]}_names") if n in arrays), None)
        if key not in arrays or names not in arrays:
            raise EncoderError(
                f"{path} has no arrays {key!r} and {names or f'{key}_names'!r}", f"It holds {sorted(arrays)}"
            )
        words = [str(name) for name in arrays[names]]
        return cls(words, arrays[key], identity or FOREIGN_IDENTITY, logit_scale)

    @classmethod
    def _from_own(cls, path: Path, arrays: dict[str, Any]) -> TextBank:
        missing = {"words", "embeddings", "logit_scale", "identity"} - arrays.keys()
        if missing:
            raise EncoderError(
                f"{path} is not a text bank of this package: it lacks {sorted(missing)}",
                f"Name the array to read with key=; it holds {sorted(arrays)}",
            )
        words = [str(word) for word in np.atleast_1d(arrays["words"])]
        try:
            identity = EncoderIdentity(**json.loads(str(arrays["identity"])))
            origins = json.loads(str(arrays["origins"])) if "origins" in arrays else {}
            return cls(words, arrays["embeddings"], identity, float(arrays["logit_scale"]), origins)
        except (TypeError, ValueError) as error:
            raise EncoderError(
                f"The text bank {path} does not say whose embeddings it holds ({error})", "Store the bank again"
            ) from error
