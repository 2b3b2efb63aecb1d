"""The convolutions of the image tokenizer, one file for each architecture."""

from trencadis.config import DiscreteVAEConfig
from trencadis.config.image import AttentiveConfig, LeanConfig, PublishedConfig, StridedConfig
from trencadis.image.architectures.attentive import AttentiveDecoder, AttentiveEncoder
from trencadis.image.architectures.lean import LeanDecoder, LeanEncoder
from trencadis.image.architectures.published import PublishedDecoder, PublishedEncoder
from trencadis.image.architectures.strided import StridedDecoder, StridedEncoder

Encoder = PublishedEncoder | StridedEncoder | AttentiveEncoder | LeanEncoder
Decoder = PublishedDecoder | StridedDecoder | AttentiveDecoder | LeanDecoder


def build_encoder(config: DiscreteVAEConfig) -> Encoder:
    match config.architecture:
        case PublishedConfig() as architecture:
            return PublishedEncoder(architecture)
        case StridedConfig() as architecture:
            return StridedEncoder(architecture)
        case AttentiveConfig() as architecture:
            return AttentiveEncoder(architecture, config.latent_dim)
        case LeanConfig() as architecture:
            return LeanEncoder(architecture)


def build_decoder(config: DiscreteVAEConfig, out_channels: int) -> Decoder:
    match config.decoder_architecture:
        case PublishedConfig() as architecture:
            return PublishedDecoder(architecture, config.latent_dim, out_channels)
        case StridedConfig() as architecture:
            return StridedDecoder(architecture, config.latent_dim, out_channels)
        case AttentiveConfig() as architecture:
            return AttentiveDecoder(architecture, config.latent_dim, out_channels)
        case LeanConfig() as architecture:
            return LeanDecoder(architecture, config.latent_dim, out_channels)
