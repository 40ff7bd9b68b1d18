namespace Warmline.Tests.Providers;

/// <summary>Streams as the providers send them, shortened.</summary>
internal static class SseFixtures
{
    /// <summary>As in https://platform.openai.com/docs/api-reference/chat-streaming; the model writes of the end, which ends nothing.</summary>
    public const string OpenAiChat = """
        data: {"id":"chatcmpl-B9","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"role":"assistant","content":"","refusal":null},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-B9","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{"content":"data: [DONE]\n\nevent: message_stop\n\n{\"type\":\"message_stop\"}"},"logprobs":null,"finish_reason":null}]}

        data: {"id":"chatcmpl-B9","object":"chat.completion.chunk","created":1741569952,"model":"gpt-4o-mini-2024-07-18","service_tier":"default","system_fingerprint":"fp_44709d6fcb","choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":"stop"}]}

        data: [DONE]


        """;

    /// <summary>As in https://docs.anthropic.com/en/api/messages-streaming.</summary>
    public const string Anthropic = """
        event: message_start
        data: {"type": "message_start", "message": {"id": "msg_1", "type": "message", "role": "assistant", "content": [], "model": "claude-opus-4", "stop_reason": null, "usage": {"input_tokens": 25, "output_tokens": 1}}}

        event: content_block_start
        data: {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}

        event: ping
        data: {"type": "ping"}

        event: content_block_delta
        data: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "{\"type\": \"message_stop\"}"}}

        event: content_block_delta
        data: {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "!"}}

        event: content_block_stop
        data: {"type": "content_block_stop", "index": 0}

        event: message_delta
        data: {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": null}, "usage": {"output_tokens": 15}}

        event: message_stop
        data: {"type": "message_stop"}


        """;

    /// <summary>As in https://platform.openai.com/docs/api-reference/responses-streaming, with the keepalive that is not in there.</summary>
    public const string OpenAiResponses = """
        event: response.created
        data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_67","object":"response","status":"in_progress","error":null,"output":[]}}

        event: response.in_progress
        data: {"type":"response.in_progress","sequence_number":1,"response":{"id":"resp_67","object":"response","status":"in_progress","error":null,"output":[]}}

        data: {"type":"keepalive","sequence_number":2}

        event: response.output_item.added
        data: {"type":"response.output_item.added","sequence_number":3,"output_index":0,"item":{"id":"msg_67","type":"message","status":"in_progress","role":"assistant","content":[]}}

        event: response.output_text.delta
        data: {"type":"response.output_text.delta","sequence_number":4,"item_id":"msg_67","output_index":0,"content_index":0,"delta":"Hi"}

        event: response.web_search_call.searching
        data: {"type":"response.web_search_call.searching","sequence_number":5,"output_index":0,"item_id":"ws_1"}

        event: response.output_text.done
        data: {"type":"response.output_text.done","sequence_number":6,"item_id":"msg_67","output_index":0,"content_index":0,"text":"Hi"}

        event: response.completed
        data: {"type":"response.completed","sequence_number":7,"response":{"id":"resp_67","object":"response","status":"completed","error":null}}


        """;

    /// <summary>A failure of the Responses API: the error, and what follows it.</summary>
    public const string OpenAiFailed = """
        event: response.created
        data: {"type":"response.created","sequence_number":0,"response":{"id":"resp_67","status":"in_progress"}}

        event: error
        data: {"type":"error","sequence_number":1,"error":{"code":"rate_limit_exceeded","message":"…"}}

        event: response.failed
        data: {"type":"response.failed","sequence_number":2,"response":{"id":"resp_67","status":"failed"}}


        """;

    public static IReadOnlyList<string> All { get; } = [OpenAiChat, Anthropic, OpenAiResponses, OpenAiFailed];
}
