"""Vietnamese prompts of a given number of tokens: random everyday words, the same ones for the same seed.

The meaning of a prompt does not change the speed. The language does: it sets the number of tokens per word,
which `calibrate` finds by letting the server tokenize a sample.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass, replace

import binhdan
from binhdan.bench.load.chat_client import ChatClient, chat_body
from binhdan.bench.load.http_client import HttpError

_EVERYDAY = """
tôi bạn anh chị em ông bà cô chú mẹ cha con cháu người nhà làng xã huyện tỉnh thành phố nước trường lớp học
thầy giáo sinh viên bác sĩ bệnh viện thuốc khám sức khỏe đau đầu ngủ ăn uống cơm phở bún cá thịt rau quả gạo
chợ mua bán giá tiền đồng nghìn triệu lương tháng năm ngày giờ phút sáng trưa chiều tối hôm nay mai qua sau
trước trong ngoài trên dưới giữa gần xa đường xe máy tàu bay đi đến về ở lại ra vào lên xuống mưa nắng gió
bão lụt mùa xuân hè thu đông biển núi sông ruộng lúa cây hoa đất rừng trâu bò lợn gà vịt giống phân bón sâu
muốn cần phải nên được bị cho với của và hoặc nhưng vì nếu thì khi nào đâu gì ai sao thế bao nhiêu mấy rất
hơn nhất cũng vẫn còn đã đang sẽ chưa không có là làm viết đọc nghe nói hỏi trả lời giúp tìm thấy biết hiểu
nhớ quên yêu thích vui buồn mới cũ lớn nhỏ cao thấp dài ngắn nhanh chậm tốt xấu đẹp khó dễ đúng sai đầy đủ
giấy tờ thủ tục đơn hộ chiếu căn cước công an ủy ban nhân dân luật quyền nghĩa vụ thuế phí bảo hiểm hợp đồng
điện thoại máy tính mạng tin nhắn ảnh sách báo bài văn thơ nhạc phim trò chơi bóng đá việc làm nghề thợ kỹ sư
"""
WORDS = tuple(_EVERYDAY.split())

_SAMPLE_WORDS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """Number of tokens in each part of a chat."""

    system: int = 800  # shared by all chats; 0: no system prompt
    question: int = 64  # different in each chat
    answer: int = 128


def words(count: int, seed: int | str) -> str:
    return " ".join(random.Random(seed).choices(WORDS, k=count))


@dataclass(frozen=True, slots=True, kw_only=True)
class Chats:
    """Makes bodies of requests with a shared system prompt and different questions."""

    model: str
    sizes: Sizes
    tokens_per_word: float
    seed: int = 0

    def for_model(self, model: str) -> Chats:
        """The same chats for a server with another name for the model."""
        return replace(self, model=model)

    def body(self, number: int | str, *, system: int | str = 0) -> bytes:
        """The body of request `number`. `system` selects one of several system prompts."""
        messages = []
        if self.sizes.system:
            messages.append({"role": "system", "content": self._text(self.sizes.system, f"system {system}")})
        question = self._text(self.sizes.question, f"question {number}")
        messages.append({"role": "user", "content": question})
        return chat_body(self.model, messages, self.sizes.answer)

    def _text(self, tokens: int, name: str) -> str:
        return words(max(1, round(tokens / self.tokens_per_word)), f"{self.seed} {name}")


async def calibrate(client: ChatClient, sizes: Sizes, *, model: str | None = None, seed: int = 0) -> Chats:
    """Chats of these sizes in the tokens of a server. Raises BinhdanError when the server counts no
    tokens."""
    if sizes.system < 0 or sizes.question < 1 or sizes.answer < 1:
        raise binhdan.InvalidArgumentError(
            "expected at least 0 tokens in the system prompt, 1 in the question and 1 in the answer, "
            f"got {sizes.system}, {sizes.question} and {sizes.answer}"
        )
    model = model or await client.model()
    sample = words(_SAMPLE_WORDS, seed)
    tokens = await count_tokens(client, model, sample)
    return Chats(model=model, sizes=sizes, tokens_per_word=tokens / _SAMPLE_WORDS, seed=seed)


async def count_tokens(client: ChatClient, model: str, text: str) -> int:
    """Number of tokens in a text, as the server counts. Raises BinhdanError when the server counts no
    tokens."""
    return await _tokenize(client, text) or await _usage(client, model, text)


async def _tokenize(client: ChatClient, text: str) -> int | None:
    """Uses /tokenize of llama.cpp, which binhdan has too. Returns None where the server lacks it."""
    body = json.dumps({"content": text}, ensure_ascii=False).encode()
    try:
        response = await client.http.request("POST", "//tokenize", body)
        return len(json.loads(response.body)["tokens"]) if response.status == 200 else None
    except (HttpError, ValueError, LookupError, TypeError):
        return None


async def _usage(client: ChatClient, model: str, text: str) -> int:
    """Uses the usage of two prompts. Their difference does not include the markup of the chat template."""
    counts = []
    for content in ("a", text):
        body = chat_body(model, [{"role": "user", "content": content}], 1)
        reply = (await client.chat(body)).reply()
        if reply.error is not None or reply.prompt_tokens is None:
            raise binhdan.BinhdanError(
                f"cannot count the tokens of a text: the server has no /tokenize, and a chat returns "
                f"{reply.error or 'no usage'}"
            )
        counts.append(reply.prompt_tokens)
    return max(1, counts[1] - counts[0] + 1)
