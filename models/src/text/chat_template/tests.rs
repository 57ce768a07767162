#![allow(clippy::unwrap_used)]
use super::*;

const CHATML: &str = "{% for message in messages %}\
        {{'<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>' + '\\n'}}\
        {% endfor %}\n\
        {% if add_generation_prompt %}\n    {{ '<|im_start|>assistant\\n' }}\n{% endif %}\n";

fn talk() -> Vec<ChatMessage> {
    vec![
        ChatMessage::system(" be brief "),
        ChatMessage::user("hi"),
        ChatMessage::assistant("hello"),
        ChatMessage::user("2 < 3 & \"x\"?\n"),
    ]
}

fn render(source: &str, messages: &[ChatMessage]) -> String {
    let template = ChatTemplate::from_source(source, "<s>", "</s>").unwrap();
    template.render(messages, true).unwrap()
}

fn error(source: &str, messages: &[ChatMessage]) -> String {
    let error = ChatTemplate::from_source(source, "<s>", "</s>")
        .and_then(|template| template.render(messages, true))
        .unwrap_err()
        .to_string();
    assert!(!error.contains('\n'), "{error}");
    error
}

#[test]
fn chatml() {
    assert_eq!(
        render(CHATML, &talk()[1..3]),
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\nhello<|im_end|>\n    \
             <|im_start|>assistant\n\n",
    );
}

#[test]
fn llama_3_style_with_header_and_date() {
    let source = "\
{{- bos_token }}
{%- if not date_string is defined %}
    {%- set date_string = strftime_now('%Y') if strftime_now is defined else 'none' %}
{%- endif %}
{%- if messages[0]['role'] == 'system' %}
    {%- set system_message = messages[0]['content']|trim %}
    {%- set messages = messages[1:] %}
{%- else %}
    {%- set system_message = '' %}
{%- endif %}
{%- if tools is not none %}{{ raise_exception('no tools here') }}{%- endif %}
{{- '<|header|>system\\n' + system_message + (date_string|length|string) + '<|eot|>' }}
{%- for message in messages %}
    {{- '<|header|>' + message['role'] + '\\n' + message['content'].strip() + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|header|>assistant\\n' }}
{%- endif %}
";
    assert_eq!(
        render(source, &talk()),
        "<s><|header|>system\nbe brief4<|eot|><|header|>user\nhi<|eot|>\
             <|header|>assistant\nhello<|eot|><|header|>user\n2 < 3 & \"x\"?<|eot|>\
             <|header|>assistant\n",
    );
}

#[test]
fn gemma_style_checks_that_roles_alternate() {
    let source = "{{ bos_token }}{% if messages[0]['role'] == 'system' %}\
{{ raise_exception('System role not supported') }}{% endif %}\
{% for message in messages %}{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}\
{{ raise_exception('Conversation roles must alternate\\nuser/assistant/...') }}{% endif %}\
{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}\
{% set role = message['role'] %}{% endif %}\
{{ '<start_of_turn>' + role + '\\n' + message['content'] | trim + '<end_of_turn>\\n' }}\
{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\\n'}}{% endif %}";
    assert_eq!(
        render(source, &talk()[1..3]),
        "<s><start_of_turn>user\nhi<end_of_turn>\n<start_of_turn>model\nhello<end_of_turn>\n\
             <start_of_turn>model\n",
    );
    assert!(error(source, &talk()).contains("System role not supported"));
    let twice = [ChatMessage::user("a"), ChatMessage::user("b")];
    assert!(error(source, &twice).contains("roles must alternate user/assistant"));
}

#[test]
fn mistral_style_with_namespace_and_loop_controls() {
    let source = "\
{%- set ns = namespace(system='', n=0) -%}
{%- for message in messages -%}
  {%- if message.role == 'system' -%}{%- set ns.system = message.content.strip() -%}{%- continue -%}
  {%- endif -%}
  {%- set ns.n = ns.n + 1 -%}
  {%- if message.role == 'user' -%}
    {%- if loop.last and ns.system -%}[INST] {{ ns.system }} {{ message.content }}[/INST]
    {%- else -%}[INST] {{ message.content }}[/INST]{%- endif -%}
  {%- elif message['role'] in ['assistant', 'tool'] -%}{{ message.content + eos_token }}
  {%- endif -%}
{%- endfor -%}({{ ns.n }})";
    assert_eq!(
        render(source, &talk()),
        "[INST] hi[/INST]hello</s>[INST] be brief 2 < 3 & \"x\"?\n[/INST](3)",
    );
}

#[test]
fn python_methods_macros_and_json() {
    let cases = [
        ("{{ 'a</think>b'.split('</think>')[-1] }}", "b"),
        (
            "{{ '\\nx\\n'.lstrip('\\n') }}|{{ 'xay'.rstrip('y') }}",
            "x\n|xa",
        ),
        (
            "{{ messages[::-1][0].role }}{{ messages[-1:]|length }}",
            "assistant1",
        ),
        (
            "{% for k, v in {'b': 1, 'a': [2]}.items() %}{{ k }}={{ v }};{% endfor %}",
            "b=1;a=[2];",
        ),
        (
            "{{ {'b': 1, 'a': [true, none, \"<é>\\n'\"]} | tojson }}",
            "{\"b\": 1, \"a\": [true, null, \"<é>\\n'\"]}",
        ),
        (
            "{{ {'a': [1.5], 'e': []} | tojson(indent=2) }}",
            "{\n  \"a\": [\n    1.5\n  ],\n  \"e\": []\n}",
        ),
        (
            "{{ [1]|tojson(ensure_ascii=False, separators=(',', ':')) }}",
            "[1]",
        ),
        (
            "{% macro m(x, y='d') %}<{{ x }}{{ y }}>{% endmacro %}{{ m('a') }}",
            "<ad>",
        ),
        (
            "{{ messages | selectattr('role', 'equalto', 'user') | list | length }}",
            "1",
        ),
        (
            "{{ 'x'.startswith('x') and 'a,b'.replace(',', ';') }}",
            "a;b",
        ),
        ("{{ messages[0].get('tool_calls', 'none') }}", "none"),
        (
            "{{ 'yes' if messages[0].content is string and messages is not mapping }}",
            "yes",
        ),
        (
            "{{ tools is iterable }}{{ 'x' is iterable }}{{ 1 is iterable }}",
            "FalseTrueFalse",
        ),
        ("{% generation %}x{%- endgeneration -%} y", "xy"),
        ("{{ undefined_thing }}{{ messages[9] is defined }}", "False"),
    ];
    for (source, expected) in cases {
        assert_eq!(render(source, &talk()[1..3]), expected, "{source}");
    }
}

#[test]
fn hostile_templates_end_in_an_error() {
    let nested = format!(
        "{}x{}",
        "{% if 1 %}".repeat(10_000),
        "{% endif %}".repeat(10_000)
    );
    let cases = [
        (
            "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
            "end",
        ),
        (
            "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
            "recursion",
        ),
        ("{{ 'x' * 9999999999 }}", "too large"),
        ("{% include 'chat' %}", "recursion"),
        ("{% include '/etc/passwd' %}", "passwd"),
        ("{{ messages.nope.nope }}", "undefined"),
        ("{% for %}", "unexpected"),
        (&nested, "recursion"),
    ];
    for (source, expected) in cases {
        let error = error(source, &talk());
        assert!(
            error.contains(expected),
            "{}: {error}",
            &source[..source.len().min(60)]
        );
    }
    let long = "x".repeat(MAX_TEMPLATE_BYTES + 1);
    assert!(error(&long, &talk()).contains("too long"));
}

#[test]
fn the_fallback_writes_headings() {
    let template = ChatTemplate::fallback();
    assert!(template.is_fallback());
    let text = template.render(&talk()[1..3], true).unwrap();
    assert_eq!(
        text,
        "### User:\nhi\n\n### Assistant:\nhello\n\n### Assistant:\n"
    );
}

#[test]
fn a_generated_model_brings_its_template() {
    crate::text::test_vocabulary::with_model(1024, |model, vocabulary| {
        let template = ChatTemplate::from_gguf(model, &vocabulary)
            .unwrap()
            .unwrap();
        let text = template.render(&talk(), true).unwrap();
        assert!(
            text.contains("be brief") && text.contains("2 < 3 & \"x\"?"),
            "{text}"
        );
    });
}

#[test]
fn llama_cpps_templates_are_there_by_name() {
    let names = ChatTemplate::built_in_names();
    for name in ["chatml", "llama2", "llama3", "gemma", "phi3", "mistral-v7"] {
        assert!(names.contains(&name), "{names:?}");
    }
    assert!(ChatTemplate::built_in("chatml ").is_none());
    for name in names {
        let template = ChatTemplate::built_in(name).unwrap();
        assert!(template.render(&[], true).is_err());
        let text = template.render(&talk(), true).unwrap();
        assert!(
            text.contains("hello") && text.contains("2 < 3"),
            "{name}: {text}"
        );
    }
    let chatml = ChatTemplate::built_in("chatml").unwrap();
    let text = chatml.render(&talk()[1..2], true).unwrap();
    assert_eq!(
        text,
        "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    );
    let long = ChatMessage::user("é".repeat(100_000));
    assert!(
        chatml
            .render(std::slice::from_ref(&long), false)
            .unwrap()
            .contains(&long.content)
    );
    assert!(chatml.render(&[ChatMessage::user("a\0b")], true).is_err());
}

#[test]
fn an_empty_template_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("scripted.gguf");
    for source in ["", " \n"] {
        let spec = crate::synth::ScriptedSpec {
            chat_template: Some(source.to_owned()),
            ..crate::synth::ScriptedSpec::saying(&["a"])
        };
        spec.write(&path).unwrap();
        let vocabulary = Vocabulary::load(&path).unwrap();
        let model = GgufFile::open(&path).unwrap();
        assert!(
            ChatTemplate::from_gguf(&model, &vocabulary)
                .unwrap()
                .is_none()
        );
    }
}
