"""What most records have in common, so that zstd need not store it in each.

Messages, a write and a checkpoint as they are before they are compressed. It is part of the format: what was compressed
with it cannot be read without it, so it never changes. (A better one would be a second one, with a flag of its own.)
"""

DICTIONARY = (
    b"\xc7\x82=\x96\xbelangchain_core.messages.system\xadSystemMessage\x86\xa7content\xa0\xb1additional_kwargs\x80"
    b"\xb1response_metadata\x80\xa4type\xa6system\xa4name\xc0\xa2id\xa0\x92\xa7content\xa2id\xc0\xc0\xc7\xb5=\x96"
    b"\xbclangchain_core.messages.tool\xabToolMessage\x89\xa7content\xa0\xb1additional_kwargs\x80\xb1response_metad"
    b"ata\x80\xa4type\xa4tool\xa4name\xc0\xa2id\xa0\xactool_call_id\xa5call_\xa8artifact\xc0\xa6status\xa7success"
    b"\x93\xa7content\xa2id\xactool_call_id\xc0\xc0\xc8\x01I=\x96\xbalangchain_core.messages.ai\xa9AIMessage\x89"
    b"\xa7content\xa0\xb1additional_kwargs\x80\xb1response_metadata\x82\xadfinish_reason\xa4stop\xaamodel_name\xa0"
    b"\xa4type\xa2ai\xa4name\xc0\xa2id\xa8lc_run--\xaatool_calls\x91\x84\xa4name\xa0\xa4args\x80\xa2id\xa5call_\xa4"
    b"type\xa9tool_call\xb2invalid_tool_calls\x90\xaeusage_metadata\x83\xacinput_tokens\x01\xadoutput_tokens\x01"
    b"\xactotal_tokens\x02\x95\xa7content\xa2id\xb1response_metadata\xaatool_calls\xaeusage_metadata\xc0\xc0\xc7"
    b"\x7f=\x96\xbdlangchain_core.messages.human\xacHumanMessage\x86\xa7content\xa0\xb1additional_kwargs\x80\xb1res"
    b"ponse_metadata\x80\xa4type\xa5human\xa4name\xc0\xa2id\xa0\x92\xa7content\xa2id\xc0\xc0\x93\xa8messages\xb5~__"
    b"pregel_pull, agent\x92\x01\x01\x95\xd9+refund:1f000000-0000-6000-8000-000000000000\xd9$1f000000-0000-6000-800"
    b"0-000000000000\x86\xa1v\x04\xa2ts\xd9 2026-11-25T15:08:42.000000+00:00\xa2id\xd9$1f000000-0000-6000-8000-0000"
    b"00000000\xb0channel_versions\x87\xa9__start__\xd9'00000000000000000000000000000002.000000\xa4call\xd9'0000000"
    b"0000000000000000000000002.000000\xafbranch:to:check\xd9'00000000000000000000000000000003.000000\xb1branch:to:"
    b"approve\xd9'00000000000000000000000000000004.000000\xadbranch:to:pay\xd9'00000000000000000000000000000005.000"
    b"000\xa8messages\xd9'00000000000000000000000000000005.000000\xa8refunded\xd9'00000000000000000000000000000005."
    b"000000\xadversions_seen\x86\xa9__input__\x80\xa9__start__\x81\xa9__start__\xd9'000000000000000000000000000000"
    b"01.000000\xa5check\x81\xafbranch:to:check\xd9'00000000000000000000000000000002.000000\xad__interrupt__\x84"
    b"\xa4call\xd9'00000000000000000000000000000002.000000\xa9__start__\xd9'00000000000000000000000000000002.000000"
    b"\xafbranch:to:check\xd9'00000000000000000000000000000003.000000\xb1branch:to:approve\xd9'00000000000000000000"
    b"000000000003.000000\xa7approve\x81\xb1branch:to:approve\xd9'00000000000000000000000000000003.000000\xa3pay"
    b"\x81\xadbranch:to:pay\xd9'00000000000000000000000000000004.000000\xb0updated_channels\x92\xa8messages\xa8refu"
    b"nded\x83\xa6source\xa4loop\xa4step\x03\xa7parents\x81\xa0\xd9$1f000000-0000-6000-8000-000000000000\x83\xa4cal"
    b"l\xc4B\x84\xa4name\xacrefund_order\xa4args\x81\xa8order_id\xa41001\xa2id\xa8call-8-0\xa4type\xa9tool_call\xa8"
    b"messages\x92\x01\x01\xa8refunded\xc4\t\xcb@o \x00\x00\x00\x00\x00"
)
