// A microcontroller asks, with zenoh-pico 1.x and without micro-ROS: a prompt as std_msgs/String on the
// topic of rmw_zenoh, and the whole answer. A sketch: it is not built here.
//
//     cc pico.c -lzenohpico -o pico && ./pico tcp/192.168.1.10:7447 "Where is the charger?"
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <zenoh-pico.h>

// Domain 0; the hash is that of std_msgs/msg/String in all releases since Iron.
#define STRING "/std_msgs::msg::dds_::String_/RIHS01_df668c740482bbd48fb39d76a70dfd4bd59db1288021743503259e948f6b1a18"
#define PROMPT "0/llm/prompt" STRING
#define ANSWER "0/llm/answer" STRING

static volatile int answered = 0;

// A message is 4 bytes of header (CDR, little endian), the number of bytes with the final 0, the text.
static void show(z_loaned_sample_t *sample, void *context) {
    (void)context;
    z_owned_slice_t bytes;
    z_bytes_to_slice(z_sample_payload(sample), &bytes);
    if (z_slice_len(z_loan(bytes)) > 9) {
        int length = (int)z_slice_len(z_loan(bytes)) - 9;
        printf("%.*s\n", length, (const char *)z_slice_data(z_loan(bytes)) + 8);
    }
    z_drop(z_move(bytes));
    answered = 1;
}

int main(int argc, char **argv) {
    if (argc != 3 || strlen(argv[2]) > 500) {
        fprintf(stderr, "usage: pico ENDPOINT PROMPT\n");
        return 2;
    }
    z_owned_config_t config;
    z_config_default(&config);
    zp_config_insert(z_loan_mut(config), Z_CONFIG_MODE_KEY, "client");
    zp_config_insert(z_loan_mut(config), Z_CONFIG_CONNECT_KEY, argv[1]);
    z_owned_session_t session;
    if (z_open(&session, z_move(config), NULL) < 0) {
        fprintf(stderr, "nobody answers at %s\n", argv[1]);
        return 1;
    }
    zp_start_read_task(z_loan_mut(session), NULL);
    zp_start_lease_task(z_loan_mut(session), NULL);

    z_view_keyexpr_t prompts, answers;
    z_view_keyexpr_from_str(&prompts, PROMPT);
    z_view_keyexpr_from_str(&answers, ANSWER);
    z_owned_closure_sample_t callback;
    z_closure(&callback, show, NULL, NULL);
    z_owned_subscriber_t subscriber;
    z_declare_subscriber(z_loan(session), &subscriber, z_loan(answers), z_move(callback), NULL);

    uint8_t message[512] = {0, 1, 0, 0};
    uint32_t length = (uint32_t)strlen(argv[2]) + 1;
    for (int i = 0; i < 4; i++) {
        message[4 + i] = (uint8_t)(length >> (8 * i));
    }
    memcpy(message + 8, argv[2], length);
    z_owned_bytes_t payload;
    z_bytes_copy_from_buf(&payload, message, 8 + length);
    z_put(z_loan(session), z_loan(prompts), z_move(payload), NULL);

    for (int i = 0; i < 600 && !answered; i++) {
        z_sleep_ms(100);
    }
    z_drop(z_move(subscriber));
    z_drop(z_move(session));
    return answered ? 0 : 1;
}
