#![allow(clippy::unwrap_used)]
use super::*;

fn parse(payload: &[u8], plain: bool) -> Result<(Prompt, GenerateOptions)> {
    super::parse(payload, plain, GenerateOptions::default())
}

#[test]
fn what_is_left_open_is_as_the_model_wants_it() {
    let greedy = || GenerateOptions {
        sampling: SamplingParams::greedy(),
        ..GenerateOptions::default()
    };
    let temperature = |payload: &[u8]| {
        let (_, options) = super::parse(payload, true, greedy()).unwrap();
        options.sampling.temperature
    };
    assert_eq!(temperature(b"Hello"), 0.0);
    assert_eq!(temperature(br#"{"prompt":"x","top_k":3}"#), 0.0);
    assert_eq!(temperature(br#"{"prompt":"x","temperature":0.5}"#), 0.5);
}

#[test]
fn a_string_on_a_topic_is_the_prompt_itself() {
    assert_eq!(parse(b"Hello?", true).unwrap().0, Prompt::text("Hello?"));
    assert_eq!(
        parse(b"[1] first", true).unwrap().0,
        Prompt::text("[1] first")
    );
    assert_eq!(
        parse(br#"{"prompt":"x"}"#, true).unwrap().0,
        Prompt::text("x")
    );
    assert!(parse(b"Hello?", false).is_err());
}

#[test]
fn all_that_may_be_said_is_heard() {
    let (prompt, options) = parse(
        br#"{"prompt":"x","raw":true,"n_predict":7,"temperature":0,"top_k":1,"top_p":0.5,
            "min_p":0.1,"repeat_penalty":1.1,"repeat_last_n":-1,"seed":3,"grammar":"root ::= \"g\"",
            "stop":["a"],"ignore_eos":true,"priority":0,"deadline_ms":250,"logit_bias":[[5,-1.5],["no",false]],
            "deadline":"first_token"}"#,
        false,
    )
    .unwrap();
    assert_eq!(prompt, Prompt::raw("x"));
    let sampling = SamplingParams {
        temperature: 0.0,
        top_k: 1,
        top_p: 0.5,
        min_p: 0.1,
        repeat_penalty: 1.1,
        repeat_last_n: -1,
        seed: 3,
        grammar: Some("root ::= \"g\"".into()),
        logit_bias: vec![
            LogitBias {
                of: Biased::Token(5),
                bias: -1.5,
            },
            LogitBias {
                of: Biased::Text("no".into()),
                bias: f32::NEG_INFINITY,
            },
        ],
    };
    let stop = vec!["a".to_owned()];
    let expected = GenerateOptions {
        n_predict: Some(7),
        sampling,
        stop,
        ignore_eos: true,
        priority: Priority::new(0).unwrap(),
        deadline: Some(Deadline::new(DeadlineKind::FirstToken, 250).unwrap()),
        ..GenerateOptions::default()
    };
    assert_eq!(options, expected);
    let payload = br#"{"prompt":"x","raw":true,"special":true}"#;
    assert_eq!(parse(payload, false).unwrap().0, Prompt::special("x"));
    let (chat, _) = parse(
        br#"{"messages":[{"role":"user","content":"x"}],"n_predict":-1}"#,
        false,
    )
    .unwrap();
    assert_eq!(chat, Prompt::text("x"));
}

#[test]
fn null_is_what_is_not_given() {
    let open = parse(br#"{"prompt":"x"}"#, false).unwrap();
    let fields = [
        "messages",
        "raw",
        "special",
        "n_predict",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "repeat_penalty",
        "repeat_last_n",
        "seed",
        "grammar",
        "logit_bias",
        "stop",
        "ignore_eos",
        "outline",
        "priority",
        "deadline_ms",
        "deadline",
    ];
    let nulls: String = fields.map(|field| format!(r#","{field}":null"#)).concat();
    let request = format!(r#"{{"prompt":"x"{nulls}}}"#);
    assert_eq!(parse(request.as_bytes(), false).unwrap(), open);
    let chat = br#"{"prompt":null,"messages":[{"role":"user","content":"x"}]}"#;
    assert_eq!(parse(chat, false).unwrap(), open);
}

#[test]
fn the_field_of_a_wrong_type_is_named() {
    for (field, wrong) in [
        ("prompt", "7"),
        ("messages", "\"x\""),
        ("raw", "1"),
        ("special", "\"yes\""),
        ("n_predict", "2.5"),
        ("temperature", "\"hot\""),
        ("top_k", "[]"),
        ("top_p", "{}"),
        ("min_p", "true"),
        ("repeat_penalty", "\"1\""),
        ("repeat_last_n", "9999999999"),
        ("seed", "\"3\""),
        ("grammar", "0"),
        ("stop", "\"x\""),
        ("stop[1]", "[\"a\",7]"),
        ("ignore_eos", "\"yes\""),
        ("outline", "\"sometimes\""),
        ("priority", "\"high\""),
        ("deadline_ms", "0.5"),
        ("deadline", "\"soon\""),
        (
            "messages[1].role",
            r#"[{"role":"user","content":"x"},{"role":null,"content":""}]"#,
        ),
        (
            "messages[0].content",
            r#"[{"role":"user","content":["x"]}]"#,
        ),
        (
            "messages[0].contents",
            r#"[{"role":"user","contents":"x"}]"#,
        ),
    ] {
        let key = field.split('[').next().unwrap();
        let request = format!(r#"{{"{key}":{wrong}}}"#);
        let error = parse(request.as_bytes(), false).unwrap_err().to_string();
        let named = format!("expected: {field}: ");
        assert!(error.contains(&named) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn biases_may_be_a_map() {
    let request = br#"{"prompt":"x","logit_bias":{"5":-1.5,"no":false}}"#;
    let (_, options) = parse(request, false).unwrap();
    let list = br#"{"prompt":"x","logit_bias":[[5,-1.5],["no",false]]}"#;
    assert_eq!(options, parse(list, false).unwrap().1);
}

#[test]
fn what_is_no_bias_or_no_grammar_is_told_at_once() {
    for (fields, expected) in [
        (r#""logit_bias":[[1,true]]"#, "number or false"),
        (r#""logit_bias":[[99999999999,1]]"#, "number or false"),
        (r#""logit_bias":[[5,1e300]]"#, "number or false"),
        (r#""logit_bias":[5,1]"#, "number or false"),
        (r#""logit_bias":7"#, "number or false"),
        (r#""grammar":"root ::= ("#, "grammar"),
    ] {
        let request = format!(r#"{{"prompt":"x",{fields}}}"#);
        let error = parse(request.as_bytes(), false).unwrap_err().to_string();
        assert!(error.contains(expected) && !error.contains('\n'), "{error}");
    }
}

#[test]
fn a_byte_order_mark_is_no_part_of_a_request() {
    let marked = |text: &str| format!("\u{feff}{text}").into_bytes();
    let plain = parse(&marked("Hello?"), true).unwrap().0;
    assert_eq!(plain, Prompt::text("Hello?"));
    let json = parse(&marked(r#"{"prompt":"x"}"#), true).unwrap().0;
    assert_eq!(json, Prompt::text("x"));
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let too_long = vec![b'a'; MAX_REQUEST_BYTES + 1];
    let many_stops = format!(r#"{{"prompt":"x","stop":{:?}}}"#, vec!["a"; 17]);
    let cases: [(&[u8], &str); 20] = [
        (b"", "empty"),
        (b"  \n", "empty"),
        (&too_long, "1048576"),
        (b"\xff", "UTF-8"),
        (b"\xff\xfeH\0i\0", "UTF-16"),
        (b"{\"prompt\":", "EOF"),
        (br#"{"promt":"x"}"#, "promt"),
        (br#"{}"#, "missing"),
        (br#"{"prompt":""}"#, "empty"),
        (br#"{"messages":[]}"#, "empty"),
        (br#"{"prompt":"x","messages":[]}"#, "both"),
        (br#"{"prompt":"x","special":true}"#, "raw"),
        (br#"{"prompt":"x","n_predict":0}"#, "n_predict"),
        (br#"{"prompt":"x","seed":-2}"#, "seed"),
        (br#"{"prompt":"x","top_p":2}"#, "top_p"),
        (br#"{"prompt":"x","priority":9}"#, "priority is 9: send 0"),
        (br#"{"prompt":"x","deadline_ms":0}"#, "deadline_ms is 0"),
        (br#"{"prompt":"x","deadline_ms":-7}"#, "deadline_ms is -7"),
        (
            br#"{"prompt":"x","deadline":"answer"}"#,
            "deadline_ms is missing",
        ),
        (many_stops.as_bytes(), "stop"),
    ];
    for (payload, expected) in cases {
        let error = parse(payload, true).unwrap_err().to_string();
        assert!(
            error.contains(expected) && !error.contains('\n'),
            "{expected}: {error}"
        );
    }
}

#[test]
fn a_refusal_says_when_there_is_room_within_sane_limits() {
    let ms = Duration::from_millis;
    for (room_after, told_ms) in [
        (None, 1_000),
        (Some(ms(2_345)), 2_345),
        (Some(ms(3)), 100),
        (Some(ms(5_000_000)), 600_000),
    ] {
        assert_eq!(busy(128, room_after).retry_after_ms(), Some(told_ms));
    }
}
