//! Decode and mixed loads: the simulation against the closed formulas, and its promises.
use jupiter_actors::planning::cost::{Pipeline, Work};
use jupiter_actors::planning::placement::figures::{Value, value};
use jupiter_actors::planning::placement::{Load, Objective};
use jupiter_actors::planning::simulate::{
    DecodeLoad, Job, MixedLoad, simulate_decode, simulate_mixed,
};
use proptest::prelude::*;

use crate::common::{cluster, stages};

fn main_ns(pipeline: &Pipeline<'_>, objective: Objective, rows: u32, context: u32) -> u64 {
    let load = Load {
        prompt: 1,
        rows,
        context,
    };
    let Value { main_ns, .. } = value(pipeline, objective, &load);
    main_ns as u64
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    #[test]
    fn one_stream_takes_the_time_between_tokens_each_step(
        cluster in cluster(1..=4, 1..=6),
        pick in any::<prop::sample::Index>(),
        context in 0u32..100,
        n_steps in 1u32..20,
    ) {
        let stages = stages(&cluster, pick);
        let pipeline = Pipeline::new(&cluster, &stages);
        let load = DecodeLoad { n_streams: 1, n_micro_batches: 1, n_steps, context };
        let tbt = |step| main_ns(&pipeline, Objective::Tbt, 1, context + step);
        let expected: u64 = (0..n_steps).map(tbt).sum();
        prop_assert_eq!(simulate_decode(&pipeline, &load).decoded_ns, expected);
    }

    #[test]
    fn enough_micro_batches_reach_the_throughput_and_none_exceed_it(
        cluster in cluster(1..=4, 1..=6),
        pick in any::<prop::sample::Index>(),
        rows in 1u32..4,
        n_steps in 1u32..10,
    ) {
        let stages = stages(&cluster, pick);
        let pipeline = Pipeline::new(&cluster, &stages);
        // At the last context, every step costs most; at the first, least.
        let (first, last) = (50, 50 + n_steps - 1);
        let slowest = |context| main_ns(&pipeline, Objective::Throughput, rows, context);
        let around = main_ns(&pipeline, Objective::Tbt, rows, last);
        let n_micro_batches = u32::try_from(around.div_ceil(slowest(first))).unwrap();
        prop_assume!(n_micro_batches < 200);
        let load = DecodeLoad {
            n_streams: rows * n_micro_batches,
            n_micro_batches,
            n_steps,
            context: first,
        };
        let total = simulate_decode(&pipeline, &load).decoded_ns;
        let n_jobs = u64::from(n_micro_batches * n_steps);
        prop_assert!(total >= n_jobs * slowest(first));
        // All but the first pass run at the pace of the slowest server.
        prop_assert!(total <= around + n_jobs * slowest(last));
    }

    #[test]
    fn a_prompt_holds_up_others_by_one_chunk_at_most(
        cluster in cluster(1..=4, 1..=6),
        pick in any::<prop::sample::Index>(),
        chunks in prop::collection::vec(1u32..30, 1..8),
        n_streams in 1u32..7,
        n_micro_batches in 1u32..5,
        n_steps in 1u32..12,
        arrives_ms in 0u64..300,
    ) {
        let stages = stages(&cluster, pick);
        let pipeline = Pipeline::new(&cluster, &stages);
        let decode = DecodeLoad { n_streams, n_micro_batches, n_steps, context: 10 };
        let load = MixedLoad { decode, chunks, arrives_ns: arrives_ms * 1_000_000 };
        let mixed = simulate_mixed(&pipeline, &load);
        // Everything was done once.
        let n_batches = n_micro_batches.min(n_streams);
        let n_jobs = load.chunks.len() + (n_batches * n_steps) as usize;
        prop_assert_eq!(mixed.timeline.back_ns.len(), n_jobs);
        prop_assert_eq!(mixed.timeline.spans.len(), n_jobs * pipeline.n_servers());
        prop_assert!(mixed.ttft_ns > 0);
        // Waiting for the first stage: one chunk, and the other micro-batches.
        let first_stage = |work| pipeline.server_ns(0, work);
        let longest_chunk = {
            let mut context = 0;
            let times = load.chunks.iter().enumerate().map(|(i, &rows)| {
                let work = if i + 1 == load.chunks.len() {
                    Work::last_chunk(rows, context)
                } else {
                    Work::chunk(rows, context)
                };
                context += rows;
                first_stage(work)
            });
            times.max().unwrap()
        };
        let most_rows = n_streams.div_ceil(n_batches);
        let step = (1..=most_rows)
            .map(|rows| first_stage(Work::decode(rows, 10 + n_steps)))
            .max()
            .unwrap();
        prop_assert!(mixed.longest_wait_ns <= longest_chunk + u64::from(n_batches) * step);
        // Between two steps of one micro-batch there is at most one chunk; order is kept all along.
        for batch in 0..n_batches as usize {
            let (mut n_chunks, mut n_begun) = (0, 0);
            for &job in &mixed.jobs {
                match job {
                    Job::Chunk { .. } => n_chunks += 1,
                    Job::Step { batch: other } if other == batch => {
                        prop_assert!(n_begun == 0 || n_chunks <= 1);
                        (n_chunks, n_begun) = (0, n_begun + 1);
                    }
                    Job::Step { .. } => {}
                }
            }
            prop_assert_eq!(n_begun, n_steps);
        }
        for server in 0..pipeline.n_servers() {
            let spans = mixed.timeline.spans.iter().filter(|span| span.server == server);
            prop_assert!(spans.map(|span| span.job).eq(0..n_jobs));
        }
    }
}
